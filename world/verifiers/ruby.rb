# Checks access tokens with Debian's Ruby packages; input and output are those of node.mjs.
require 'json'
require 'net/http'

VERIFIERS = {
  'ruby-jwt' => lambda do |c|
    require 'jwt'
    keys = JSON.parse(Net::HTTP.get(URI(c['jwksUri'])), symbolize_names: true)
    JWT.decode(c['token'], nil, true, algorithms: [c['algorithm']], jwks: keys, iss: c['issuer'], verify_iss: true, aud: c['audience'], verify_aud: true)
  end,
  'ruby-json-jwt' => lambda do |c|
    require 'json/jwt'
    keys = JSON::JWK::Set.new(JSON.parse(Net::HTTP.get(URI(c['jwksUri']))))
    JSON::JWT.decode(c['token'], keys, [c['algorithm'].to_sym])
  end
}.freeze

results = JSON.parse($stdin.read).map do |c|
  VERIFIERS[c['name']].call(c)
  { name: c['name'] }
rescue StandardError, LoadError, NotImplementedError => e
  { name: c['name'], error: "#{e.class}: #{e.message}".lines.first.chomp }
end
puts JSON.generate(results)
