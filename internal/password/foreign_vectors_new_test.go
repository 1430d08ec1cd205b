package password

// newerVectors are of kinds that were added for programs of 2020 and later, and of the changes that those programs make
// to a password before they hash it.
func newerVectors() []foreignVector {
	const (
		typed     = "Correct-Horse 42 x"
		docs      = "passlib documentation, bcrypt_sha256"
		mkpasswd  = "made with mkpasswd of Debian's whois 5.5.17"
		scryptKDF = "made with npm scrypt-kdf 4.0.0, which Medusa uses; rewritten from base64"
		wordPress = "made with php 8.2 as WordPress 6.8 does; rewritten from $wp$2y$"
		slapd     = "made with slappasswd of Debian's slapd 2.5.13"
		meteor    = "made with npm bcrypt and argon2 as Meteor does"
	)
	return []foreignVector{
		{mkpasswd, typed, "$y$j9T$RorB18MIiu3saqYxUy3jW1$Vj5DCekKDvteDfXlWTuICijFugHcUezoXCjtmKEBe67", ""},
		{mkpasswd, typed, "$y$j9T$zpLmfCKx4zAxcChH1/ZtG/$7/CJYPXTsubxF8Z9y.DhXKbEzZBx/mliNEqWhuyy7bD", ""},
		{scryptKDF, typed, "$scrypt-kdf$ln=15,r=8,p=1$bGscbT4MLtYZh1ald4TifjggehXHH4yUMbWDG48pPfY$Nzz8vWc7FkDBwYLx/g0EHg84s3B9+6Xq1xTaRCy7NsI", ""},
		{docs, "password", "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2", ""},
		{passlib, typed, "$bcrypt-sha256$v=2,t=2b,r=12$hze7kpZnBVil5xynLtV.G.$tTCyAF8Tb2y9B8hIWw0xw9jKBC15bt6", ""},
		{hashcat, "hashcat", "$S$C33783772bRXEx1aCsvY.dqgaaSu76XmVlKrW9Qu8IQlvxHlmzLf", ""},
		{"made as Drupal 10.0 does", typed, "$S$DfPlM9tJUBdCI//UoW3l0DlpFbBVG4ZUk2Opl1N//jKfAejoFfQH", ""},
		{slapd, typed, "{SSHA384}VMMVZ2zsSyhSSe7t5t9RSKZ3skcJ1TZo0AtDEiLOcd2znz2k1yTUy+DfT5xLf3z5nJVtDRbQS7U=", ""},
		{slapd, typed, "{SMD5}cR1cJjoNKiLX1uQgUiFxX7DZB5A=", ""},
		{wordPress, typed, "{WP-SHA384}$2y$10$PpOTMfrymS3N02TejV3bQu4U5Cx7R6zGiv.pmSpiaAXnmgrd4YDJ6", ""},
		{meteor, typed, "{sha256-hex}$2b$10$5zV1HyhvIGDElVvJbQrETOVdocdcLgh98rjR89bdKZHebgRVExi9G", "bcrypt_sha256$" + "$2b$10$5zV1HyhvIGDElVvJbQrETOVdocdcLgh98rjR89bdKZHebgRVExi9G"},
		{meteor, typed, "{SHA256-HEX}$argon2id$v=19$m=19456,p=1,t=2$nGXETFvmoGIIKm9ydFAS+g$3pSrM2zJE1eKDGuwmaJ18najcygQJ6LegTWwsPKJeXQ", "{SHA256-HEX}$argon2id$v=19$m=19456,t=2,p=1$nGXETFvmoGIIKm9ydFAS+g$3pSrM2zJE1eKDGuwmaJ18najcygQJ6LegTWwsPKJeXQ"},
		{docs, "password", "{SHA256-BASE64}$2a$12$LrmaIX5x4TRtAwEfwJZa1.2ehnw6LvuIUTM0iz4iz9hTxv21B6KFO", ""},
	}
}
