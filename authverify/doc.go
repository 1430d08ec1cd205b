// Package authverify checks Latchkey's access tokens inside other Go services:
// signature, claims and revocations, in process, without a call for each request.
//
// Nothing of a token's claims is read before its signature holds, and anything
// ambiguous is refused: a member named twice, bytes after the object, a second
// spelling of the same token. Signature checks are those of golang-jwt; its parser
// is not used, for it reads claims first, lets the last of two members of one name
// win, and matches names without regard to case.
package authverify
