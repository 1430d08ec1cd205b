<?php
// Prints what PHP makes of a password, a JSON object a line. The first argument is the password, the second a pepper.
[, $password, $pepper] = $argv;

function show(string $form, string $hash, array $more = []): void
{
    echo json_encode(['package' => 'php-cli', 'form' => $form, 'password_hash' => $hash] + $more, JSON_UNESCAPED_SLASHES), "\n";
}

show('password_hash PASSWORD_BCRYPT', password_hash($password, PASSWORD_BCRYPT));
show('password_hash PASSWORD_ARGON2ID', password_hash($password, PASSWORD_ARGON2ID));
show('password_hash PASSWORD_ARGON2I', password_hash($password, PASSWORD_ARGON2I));
show('password_hash of hash_hmac', password_hash(hash_hmac('sha256', $password, $pepper), PASSWORD_BCRYPT), ['pepper_as' => 'hmac-sha256-hex']);
$crypt = '$6$rounds=10000$' . substr(strtr(base64_encode(random_bytes(12)), '+', '.'), 0, 16);
show('crypt with a pepper behind it, as Moodle', crypt($password . $pepper, $crypt), ['pepper_as' => 'suffix']);
$trimmed = base64_encode(hash_hmac('sha384', trim($password), 'wp-sha384', true));
show('as WordPress 6.8', '$wp' . password_hash($trimmed, PASSWORD_BCRYPT));
