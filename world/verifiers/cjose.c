/* Checks the signature of one access token with cjose: cjose TOKEN ALGORITHM ISSUER AUDIENCE < jwks.json.
   Exit code 0: it is good, 3: refused. */
#include <cjose/cjose.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static int refuse(const char *what, const cjose_err *err) {
    printf("%s: %s", what, err && err->message ? err->message : "not found");
    return 3;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    cjose_err err = {0};
    cjose_jws_t *jws = cjose_jws_import(argv[1], strlen(argv[1]), &err);
    if (!jws) return refuse("cjose_jws_import", &err);
    cjose_header_t *header = cjose_jws_get_protected(jws);
    const char *alg = cjose_header_get(header, CJOSE_HDR_ALG, &err);
    if (!alg || strcmp(alg, argv[2])) return refuse("alg", NULL);
    const char *kid = cjose_header_get(header, CJOSE_HDR_KID, &err);

    json_error_t problem;
    json_t *set = json_loadf(stdin, 0, &problem), *one;
    size_t i;
    json_array_foreach(json_object_get(set, "keys"), i, one) {
        const char *id = json_string_value(json_object_get(one, "kid"));
        if (!kid || !id || strcmp(kid, id)) continue;
        char *text = json_dumps(one, JSON_COMPACT);
        cjose_jwk_t *key = cjose_jwk_import(text, strlen(text), &err);
        if (!key) return refuse("cjose_jwk_import", &err);
        return cjose_jws_verify(jws, key, &err) ? 0 : refuse("cjose_jws_verify", &err);
    }
    return refuse("kid", NULL);
}
