"""Prints what Debian's Python packages make of a password, a JSON object a line.

The first argument is the password, the second a pepper.
"""

import json
import sys

import django.conf
import django.contrib.auth.hashers as django_hashers
import flask
import flask_security
import passlib.hash
import werkzeug.security

password, pepper = sys.argv[1:]


def show(package, form, password_hash, **more):
    print(json.dumps({"package": package, "form": form, "password_hash": password_hash, **more}))


for name in (
    "pbkdf2_sha1 pbkdf2_sha256 pbkdf2_sha512 scrypt bcrypt bcrypt_sha256 argon2 sha256_crypt sha512_crypt md5_crypt apr_md5_crypt "
    "phpass django_pbkdf2_sha256 ldap_salted_sha1 ldap_salted_sha256 ldap_salted_sha512 ldap_pbkdf2_sha256 grub_pbkdf2_sha512 "
    "cta_pbkdf2_sha1 dlitz_pbkdf2_sha1 atlassian_pbkdf2_sha1"
).split():
    show("python3-passlib", name, getattr(passlib.hash, name).hash(password))
show("python3-passlib", "bcrypt_sha256, version 1", passlib.hash.bcrypt_sha256.using(version=1).hash(password))
show("python3-passlib", "scrypt as $7$", passlib.hash.scrypt.using(ident="$7$").hash(password))

django.conf.settings.configure(
    PASSWORD_HASHERS=[
        "django.contrib.auth.hashers." + name + "PasswordHasher"
        for name in "PBKDF2 PBKDF2SHA1 Argon2 BCryptSHA256 BCrypt".split()
    ]
)
for name in "pbkdf2_sha256 pbkdf2_sha1 argon2 bcrypt_sha256 bcrypt".split():
    show("python3-django", name, django_hashers.make_password(password, hasher=name))

show("python3-werkzeug", "as it comes", werkzeug.security.generate_password_hash(password))
show("python3-werkzeug", "pbkdf2:sha512", werkzeug.security.generate_password_hash(password, "pbkdf2:sha512:50000"))

for name in "argon2 bcrypt pbkdf2_sha512".split():
    app = flask.Flask("app")
    app.config.update(SECRET_KEY="a key", SECURITY_PASSWORD_SALT=pepper, SECURITY_PASSWORD_HASH=name)
    users = flask_security.UserDatastore(type("User", (), {"fs_uniquifier": None}), None)
    flask_security.Security(app, users, register_blueprint=False)
    with app.app_context():
        show("python3-flask-security", name, flask_security.hash_password(password), pepper_as="hmac-sha512-base64")
