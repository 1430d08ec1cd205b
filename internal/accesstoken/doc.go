// Package accesstoken reads, checks and writes access tokens: JWTs of the profile at+jwt (RFC 9068). It defines,
// once for the service that issues them and for the services that check them with authverify, which claims a
// token has, which rules they must meet, and which keys and algorithms count.
package accesstoken
