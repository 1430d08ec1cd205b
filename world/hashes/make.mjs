// Prints what packages of npm make of a password, a JSON object a line. The first argument is the password, the second a
// pepper.
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { Hash } from '@adonisjs/hash';
import { Argon } from '@adonisjs/hash/drivers/argon';
import { Bcrypt } from '@adonisjs/hash/drivers/bcrypt';
import { Scrypt } from '@adonisjs/hash/drivers/scrypt';
import argon2 from 'argon2';
import bcryptjs from 'bcryptjs';
import { hashPassword } from 'better-auth/crypto';
import mongoose from 'mongoose';
import passportLocalMongoose from 'passport-local-mongoose';
import scryptKDF from 'scrypt-kdf';

const require = createRequire(import.meta.url);
const [password, pepper] = process.argv.slice(2);

function print(pkg, form, password_hash, more = {}) {
  console.log(JSON.stringify({ package: pkg, form, password_hash, ...more }));
}

print('@adonisjs/hash', 'scrypt', await new Hash(new Scrypt({})).make(password));
print('@adonisjs/hash', 'argon', await new Hash(new Argon({})).make(password));
print('@adonisjs/hash', 'bcrypt', await new Hash(new Bcrypt({})).make(password));

print('argon2', 'argon2id', await argon2.hash(password));
print('argon2', 'argon2i', await argon2.hash(password, { type: argon2.argon2i }));
print('argon2', 'argon2d', await argon2.hash(password, { type: argon2.argon2d }));

print('argon2', 'argon2id with a secret', await argon2.hash(password, { secret: Buffer.from(pepper) }), { pepper_as: '' });

print('bcryptjs', 'as it comes', bcryptjs.hashSync(password, 10));
const digest = createHash('sha256').update(password).digest('hex');
print('bcryptjs', 'of a SHA-256, as Meteor', bcryptjs.hashSync(digest, 10), { flags: ['--prehash', 'sha256-hex'] });
print('bcryptjs', 'with a pepper before it', bcryptjs.hashSync(pepper + password, 10), { pepper_as: 'prefix' });

print('better-auth', 'salt:key', await hashPassword(password), { password_scheme: 'better-auth' });

const User = mongoose.model('User', new mongoose.Schema({}).plugin(passportLocalMongoose.default ?? passportLocalMongoose));
const user = new User();
await user.setPassword(password);
print('passport-local-mongoose', 'columns hash and salt', user.get('hash'), {
  password_scheme: 'passport-local-mongoose', password_salt: user.get('salt'),
});

print('scrypt-kdf', 'base64', Buffer.from(await scryptKDF.kdf(password, { logN: 15 })).toString('base64'));
print('wordpress-hash-node', '$P$', require('wordpress-hash-node').HashPassword(password));
print('drupal-hash', '$S$', require('drupal-hash').hashPassword(password));
