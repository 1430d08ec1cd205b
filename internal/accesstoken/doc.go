// Package accesstoken reads, checks and writes access tokens: JWTs of the profile at+jwt (RFC 9068). It
// defines the claims of a token, the rules for them, and the keys and algorithms that are accepted, once for
// the service, which issues tokens, and for the services that check them with authverify.
package accesstoken
