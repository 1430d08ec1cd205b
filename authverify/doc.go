// Package authverify checks Latchkey's access tokens inside other Go services: signature, claims and
// revocations, in process, without a call for each request.
//
// A [Verifier] fetches the issuer's keys and follows its revocations over one gRPC stream.
// [Verifier.UnaryInterceptor], [Verifier.StreamInterceptor] and [Verifier.Middleware] put it before gRPC and
// HTTP handlers, [ClaimsFrom] tells them who calls; package authverifytest is an issuer for tests.
//
// # What is promised
//
// While the stream runs, a revocation is known some milliseconds after Latchkey has it, and refuses every
// token it reaches from then on. When no proof has come for Config.MaxStaleness that all revocations are
// known, tokens are refused (or accepted, with Config.FailOpen) until one comes. So after a revocation its
// tokens are accepted for MaxStaleness at most, and 3 s more where the network holds back what it has already
// been given: that is how late a heartbeat may come before its stream is given up. Latchkey itself promises
// more: its ValidateToken refuses from the moment on in which the revoking call returns.
//
// # How tokens are read
//
// Nothing of a token's claims is read before its signature holds, and anything ambiguous is refused: a member
// named twice, bytes after the object, a second spelling of the same token. Signature checks are those of
// golang-jwt; its parser is not used, for it reads claims first, lets the last of two members of one name
// win, and matches names without regard to case.
package authverify
