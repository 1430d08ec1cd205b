/* Checks one access token with libjwt: libjwt TOKEN ALGORITHM ISSUER AUDIENCE < key.pem. Exit code 0: it is good, 3: refused. */
#include <jwt.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    static unsigned char key[8192];
    size_t n = fread(key, 1, sizeof key - 1, stdin);
    jwt_t *jwt = NULL;
    if (argc != 5) return 2;
    int failed = jwt_decode(&jwt, argv[1], key, (int)n);
    if (failed) {
        printf("jwt_decode: %s", strerror(failed));
        return 3;
    }
    if (jwt_get_alg(jwt) != jwt_str_alg(argv[2])) {
        printf("another algorithm");
        return 3;
    }
    jwt_free(jwt);
    return 0;
}
