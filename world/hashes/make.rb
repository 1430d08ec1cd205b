# Prints what Devise makes of a password with a pepper, as a JSON object. The first argument is the password, the second
# the pepper.
require "active_support"
require "active_support/core_ext/object/blank"
require "devise/encryptor"
require "json"

password, pepper = ARGV
Settings = Struct.new(:pepper, :stretches)
puts JSON.generate(package: "ruby-devise", form: "without a pepper", password_hash: Devise::Encryptor.digest(Settings.new(nil, 10), password))
puts JSON.generate(package: "ruby-devise", form: "config.pepper", password_hash: Devise::Encryptor.digest(Settings.new(pepper, 10), password), pepper_as: "")
