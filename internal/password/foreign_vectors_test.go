package password

import "strings"

// foreignVector is a hash that another program made. Our own code made none of them.
type foreignVector struct {
	source   string
	password string
	encoded  string
	stored   string // the result of Canonical; empty: the same text
}

const (
	// The sources of the vectors.
	argon2Reference = "github.com/P-H-C/phc-winner-argon2 src/test.c, as in passlib's tests"
	passlib         = "passlib 1.7, passlib/tests/test_handlers*.py"
	hashcat         = "hashcat.net/wiki/doku.php?id=example_hashes"
	kratos          = "github.com/ory/kratos hash/hasher_test.go"
	djangoTests     = "github.com/django/django tests/auth_tests/test_hashers.py"
	drepper         = "akkadia.org/drepper/SHA-crypt.txt"
	openssl         = "made with OpenSSL 3.0.19: openssl passwd -1, -apr1, -5, -6 -salt 'Kq3.x/Zu'"
	libxcrypt       = "made with crypt(3) of Debian's libxcrypt, through Python 3.11's crypt module"

	// The names are passlib's.
	upassTable = "t\u00e1\u0411\u2113\u0259"
	upassWav   = "\u0399\u03c9\u03b1\u03bd\u03bd\u03b7\u03c2"
	// letmein is from Django's tests.
	letmein = "l\u00e8tmein"

	firebaseSigner = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
)

func foreignVectors() []foreignVector {
	var all []foreignVector
	for _, some := range [][]foreignVector{argon2Vectors(), bcryptVectors(), scryptVectors(), pbkdf2Vectors(), cryptVectors(), saltedVectors(), newerVectors()} {
		all = append(all, some...)
	}
	return all
}

func argon2Vectors() []foreignVector {
	return []foreignVector{
		{argon2Reference, "password", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA", ""},
		{argon2Reference, "password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8", ""},
		{argon2Reference, "password", "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$T/XOJ2mh1/TIpJHfCdQan76Q5esCFVoT5MAeIM1Oq2E", ""},
		{argon2Reference, "differentpassword", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$FK6NoBr+qHAMI1jc73xTWNkCEoK9iGY6RWL1n7dNIu4", ""},
		{argon2Reference, "password", "$argon2id$v=19$t=2,m=256,p=2$c29tZXNhbHQ=$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc=", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"},
		{passlib, "password", "$argon2i$v=19$m=380,t=2,p=2$c29tZXNhbHQ$SrssP8n7m/12VWPM8dvNrw", ""},
		{passlib, upassTable, "$argon2i$v=19$m=512,t=2,p=2$1sV0O4PWLtc12Ypv1f7oGw$z+yqzlKtrq3SaNfXDfIDnQ", ""},
		{passlib, "password\x00", "$argon2i$v=19$m=512,t=2,p=2$c29tZXNhbHQ$Fb5+nPuLzZvtqKRwqUEtUQ", ""},
		{passlib, "password", "$argon2d$v=19$m=102400,t=2,p=8$g2RodLh8j8WbSdCp+lUy/A$zzAJqL/HSjm809PYQu6qkA", ""},
		{"github.com/phxql/argon2-jvm Argon2dTest.java", "password", "$argon2d$v=19$m=1024,t=2,p=1$dGhpc2lzdGhlc2FsdA$rkBsbLVYkXDowmxcwZ9qjpLuAbNjIPBXxmD27YvzHzw", ""},
		{kratos, "test", "$argon2i$v=19$m=65536,t=3,p=4$kk51rW/vxIVCYn+EG4kTSg$NyT88uraJ6im6dyha/M5jhXvpqlEdlS/9fEm7ScMb8c", ""},
		{djangoTests, "secret", "argon2$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$YC9+jJCrQhs5R6db7LlN8Q", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$YC9+jJCrQhs5R6db7LlN8Q"},
		{djangoTests, "secret", "argon2$argon2id$v=19$m=102400,t=2,p=8$Y041dExhNkljRUUy$TMa6A8fPJhCAUXRhJXCXdw", "$argon2id$v=19$m=102400,t=2,p=8$Y041dExhNkljRUUy$TMa6A8fPJhCAUXRhJXCXdw"},
	}
}

func bcryptVectors() []foreignVector {
	const (
		openwall = "openwall.com/crypt crypt_blowfish 1.2 wrapper.c"
		jBCrypt  = "mindrot.org jBCrypt TestBCrypt.java, py-bcrypt"
		john     = "John the Ripper 1.7.9, in passlib's tests"
		dotted   = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
		bytes    = "$2a$05$/OK.fbVrR/bpIqNJ5ianF."
	)
	return []foreignVector{
		{openwall, "U*U", dotted, ""},
		{openwall, "U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", ""},
		{openwall, "U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", ""},
		{openwall, "", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy", ""},
		// 72 bytes count.
		{openwall, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored", "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui", ""},
		{openwall, strings.Repeat("\xaa", 72) + "chars after 72 are ignored as usual", bytes + "swQOIzjOiJ9GHEPuhEkvqrUyvWhEMx6", ""},
		{openwall, strings.Repeat("\xaa\x55", 36), bytes + "R9xrDjiycxMbQE2bp.vgqlYpW5wx2yy", ""},
		{openwall, strings.Repeat("\x55\xaa\xff", 24), bytes + "9tQZzcJfm3uj2NvJ/n5xkhpqLrMpWCe", ""},
		{openwall, "\xff\xa3345", bytes + "nRht2l/HRhr6zmCp9vYUvvsqynflf9e", ""},
		{openwall, "\xa3", "$2y$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq", ""},
		{libxcrypt, "U*U", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", ""},
		{john, "*U*U*U*U", "$2a$05$.WRrXibc1zPgIdRXYfv.4uu6TD1KWf0VnHzq/0imhUhuxSxCyeBs2", ""},
		{jBCrypt, "", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", ""},
		{jBCrypt, "a", "$2a$10$k87L/MF28Q673VKh8/cPi.SUl7MU/rWuSiIDDFayrKk/1tBsSQu4u", ""},
		{jBCrypt, "abcdefghijklmnopqrstuvwxyz", "$2a$10$fVH8e28OQRj9tqiDXs1e1uxpsjN0c7II7YPKXua2NAKYvM6iQk7dq", ""},
		{jBCrypt, "~!@#$%^&*()      ~!@#$%^&*()PNBFRD", "$2a$10$LgfYWkbzEvQ4JakH7rOvHe0y8pHKF9OaFgwUZ2q7W2FFZmZzJYlfS", ""},
		{hashcat, "hashcat", "$2a$05$LhayLxezLhK1LhWvKxCyLOj0j1u.Kj0jZ0pEmm134uzrQlFvQJLF6", ""},
		{kratos, "test", "$2a$12$o6hx.Wog/wvFSkT/Bp/6DOxCtLRTDj7lm9on9suF/WaCGNVHbkfL6", ""},
		// The last characters have bits that no byte has, set at random by old versions.
		{passlib, "test", "$2a$04$oaQbBqq8JnSM1NHRPQGXORY4Vw3bdHKLIXTecPDRAcJ98cz1ilveO", "$2a$04$oaQbBqq8JnSM1NHRPQGXOOY4Vw3bdHKLIXTecPDRAcJ98cz1ilveO"},
		{passlib, "test", "$2a$04$yjDgE74RJkeqC0/1NheSScrvKeu9IbKDpcQf/Ox3qsrRS/Kw42qIS", "$2a$04$yjDgE74RJkeqC0/1NheSSOrvKeu9IbKDpcQf/Ox3qsrRS/Kw42qIS"},
		{passlib, "test", "$2a$04$yjDgE74RJkeqC0/1NheSSOrvKeu9IbKDpcQf/Ox3qsrRS/Kw42qIV", "$2a$04$yjDgE74RJkeqC0/1NheSSOrvKeu9IbKDpcQf/Ox3qsrRS/Kw42qIS"},
		{passlib + " (Django)", upassTable, "bcrypt$$2a$05$Z17AXnnlpzddNUvnC6cZNOSwMA/8oNiKnHTHTwLlBijfucQQlHjaG", "$2a$05$Z17AXnnlpzddNUvnC6cZNOSwMA/8oNiKnHTHTwLlBijfucQQlHjaG"},
		{passlib + " (Django)", "", "bcrypt_sha256$$2a$06$/3OeRpbOf8/l6nPPRdZPp.nRiyYqPobEZGdNRBWihQhiFDh1ws1tu", ""},
		{passlib + " (Django)", letmein, "bcrypt_sha256$$2a$08$NDjSAIcas.EcoxCRiArvT.MkNiPYVhrsrnJsRkLueZOoV1bsQqlmC", ""},
		{passlib + " (Django)", strings.Repeat("abc123", 12) + "qwr", "bcrypt_sha256$$2a$06$Tg/oYyZTyAf.Nb3qSgN61Ocy0BEz1RK6xslSNi8PlaLX2pe7x/KQG", ""},
		{passlib + " (Django)", strings.Repeat("abc123", 12) + "xyz", "bcrypt_sha256$$2a$06$Tg/oYyZTyAf.Nb3qSgN61OvY2zoRVUa2Pugv2ExVOUT2YmhvxUFUa", ""},
	}
}

func scryptVectors() []foreignVector {
	const (
		rfc7914  = "RFC 7914 section 12; the first 32 bytes, in passlib's form, from passlib's tests"
		firebase = "firebase.google.com/docs/auth, github.com/firebase/scrypt README.md"
		python   = "made with Python 3.11's hashlib.scrypt (OpenSSL)"
	)
	return []foreignVector{
		{rfc7914, "password", "$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWI", ""},
		{rfc7914, "pleaseletmein", "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofI", ""},
		{passlib, "test", "$scrypt$ln=8,r=8,p=1$wlhLyXmP8b53bm1NKYVQqg$mTpvG8lzuuDk+DWz8HZIB6Vum6erDuUm0As5yU+VxWA", ""},
		{passlib, "password", "$scrypt$ln=8,r=2,p=1$dO6d0xoDoLT2PofQGoNQag$g/Wf2A0vhHhaJM+addK61QPBthSmYB6uVTtQzh8CM3o", ""},
		{passlib, "nacl", "$scrypt$ln=1,r=4,p=2$yhnD+J+Tci4lZCwFgHCuVQ$fAsEWmxSHuC0cHKMwKVFPzrQukgvK09Sj+NueTSxKds", ""},
		{passlib, upassTable, "$scrypt$p=1,r=8,ln=7$jjGmtDamdA4BQAjBeA9BSA$OiWRHhQtpDx7M/793x6UXK14AD512jg/qNm/hkWZG4M", "$scrypt$ln=7,r=8,p=1$jjGmtDamdA4BQAjBeA9BSA$OiWRHhQtpDx7M/793x6UXK14AD512jg/qNm/hkWZG4M"},
		{kratos, "test", "$scrypt$ln=16384,r=8,p=1$2npRo7P03Mt8keSoMbyD/tKFWyUzjiQf2svUaNDSrhA=$MiCzNcIplSMqSBrm4HckjYqYhaVPPjTARTzwB1cVNYE=", "$scrypt$ln=14,r=8,p=1$2npRo7P03Mt8keSoMbyD/tKFWyUzjiQf2svUaNDSrhA$MiCzNcIplSMqSBrm4HckjYqYhaVPPjTARTzwB1cVNYE"},
		{djangoTests, letmein, "scrypt$16384$seasalt$8$1$Qj3+9PPyRjSJIebHnG81TMjsqtaIGxNQG/aEB/NYafTJ7tibgfYz71m0ldQESkXFRkdVCBhhY8mx7rQwite/Pw==", "$scrypt$ln=14,r=8,p=1$c2Vhc2FsdA$Qj3+9PPyRjSJIebHnG81TMjsqtaIGxNQG/aEB/NYafTJ7tibgfYz71m0ldQESkXFRkdVCBhhY8mx7rQwite/Pw"},
		{python, "hashcat", "$scrypt$ln=10,r=8,p=2$MDEyMzQ1Njc4OWFiY2RlZg$BK6KoLmhxrjUD3Up4NY5NWae435IUJzvbyjSEDBFSXU", ""},
		{firebase, "user1password", "$firescrypt$ln=14,r=8,p=1$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==$Bw==$" + firebaseSigner, ""},
		{kratos, "8x4WjoDbSxJZdR", "$firescrypt$ln=14,r=8,p=1$sPtDhWcd1MfdAw$xbSou7FOl6mChCyzpCPIQ7tku7nsQMTFtyOZSXXd7tjBa4NtimOx7v42Gv2SfzPQu1oxM2/k4SsbOu73wlKe1A==$Bw==$YE0dO4bwD4JnJafh6lZZfkp1MtKzuKAXQcDCJNJNyeCHairWHKENOkbh3dzwaCdizzOspwr/FITUVlnOAwPKyw==", "$firescrypt$ln=14,r=8,p=1$sPtDhWcd1MfdAw==$xbSou7FOl6mChCyzpCPIQ7tku7nsQMTFtyOZSXXd7tjBa4NtimOx7v42Gv2SfzPQu1oxM2/k4SsbOu73wlKe1A==$Bw==$YE0dO4bwD4JnJafh6lZZfkp1MtKzuKAXQcDCJNJNyeCHairWHKENOkbh3dzwaCdizzOspwr/FITUVlnOAwPKyw=="},
	}
}

func pbkdf2Vectors() []foreignVector {
	const python = "made with Python 3.11's hashlib.pbkdf2_hmac (OpenSSL); 64 bytes of key, as Keycloak derives them"
	return []foreignVector{
		{passlib, "password", "$pbkdf2$1212$OB.dtnSEXZK8U5cgxU/GYQ$y5LKPOplRmok7CZp/aqVDVg8zGI", ""},
		{passlib, upassWav, "$pbkdf2$1212$THDqatpidANpadlLeTeOEg$HV3oi1k5C5LQCgG1BMOL.BX4YZc", ""},
		{passlib, "password", "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ", ""},
		{passlib, upassWav, "$pbkdf2-sha256$1212$3SABFJGDtyhrQMVt1uABPw$WyaUoqCLgvz97s523nF4iuOqZNbp5Nt8do/cuaa7AiI", ""},
		{passlib, "password", "$pbkdf2-sha512$1212$RHY0Fr3IDMSVO/RSZyb5ow$eNLfBK.eVozomMr.1gYa17k9B7KIK25NOEshvhrSX.esqY3s.FvWZViXz4KoLlQI.BzY/YTNJOiKc5gBYFYGww", ""},
		{kratos, "test", "$pbkdf2-sha256$i=100000,l=32$1jP+5Zxpxgtee/iPxGgOz0RfE9/KJuDElP1ley4VxXc$QJxzfvdbHYBpydCbHoFg3GJEqMFULwskiuqiJctoYpI", "$pbkdf2-sha256$100000$1jP.5Zxpxgtee/iPxGgOz0RfE9/KJuDElP1ley4VxXc$QJxzfvdbHYBpydCbHoFg3GJEqMFULwskiuqiJctoYpI"},
		{kratos, "test", "$pbkdf2-sha512$i=100000,l=32$bdHBpn7OWOivJMVJypy2UqR0UnaD5prQXRZevj/05YU$+wArTfv1a+bNGO1iZrmEdVjhA+lL11wF4/IxpgYfPwc", "$pbkdf2-sha512$100000$bdHBpn7OWOivJMVJypy2UqR0UnaD5prQXRZevj/05YU$.wArTfv1a.bNGO1iZrmEdVjhA.lL11wF4/IxpgYfPwc"},
		{"documentation of OneLogin's PBKDF2 import", "Test@123", "$pbkdf2-sha1$i=10000,l=20$wJuJqLoUFsdXa8k3sFhRlA$XMGVWTbeKf4Xd+CGiuEZde8x7QA", "$pbkdf2$10000$wJuJqLoUFsdXa8k3sFhRlA$XMGVWTbeKf4Xd.CGiuEZde8x7QA"},
		{djangoTests, letmein, "pbkdf2_sha256$390000$seasalt$8xBlGd3jVgvJ+92hWPxi5ww0uuAuAnKgC45eudxro7c=", "$pbkdf2-sha256$390000$c2Vhc2FsdA$8xBlGd3jVgvJ.92hWPxi5ww0uuAuAnKgC45eudxro7c"},
		{passlib + " (Django)", "not a password", "pbkdf2_sha256$10000$kjVJaVz6qsnJ$5yPHw3rwJGECpUf70daLGhOrQ5+AMxIJdz1c3bqK1Rs=", "$pbkdf2-sha256$10000$a2pWSmFWejZxc25K$5yPHw3rwJGECpUf70daLGhOrQ5.AMxIJdz1c3bqK1Rs"},
		{passlib + " (Django)", "not a password", "pbkdf2_sha1$10000$wz5B6WkasRoF$atJmJ1o+XfJxKq1+Nu1f1i57Z5I=", "$pbkdf2$10000$d3o1QjZXa2FzUm9G$atJmJ1o.XfJxKq1.Nu1f1i57Z5I"},
		{hashcat, "hashcat", "pbkdf2_sha256$20000$H0dPx8NeajVu$GiC4k5kqbbR9qWBlsRgDywNqC2vd9kqfk7zdorEnNas=", "$pbkdf2-sha256$20000$SDBkUHg4TmVhalZ1$GiC4k5kqbbR9qWBlsRgDywNqC2vd9kqfk7zdorEnNas"},
		{python, "hashcat", "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg$dzCdfBAsm1gRaMC2q1v.SfJrl5xlfxmO6vD3IrQbZNJRCLc5ijWPnA5OyZ/12A7WrkMJ505bBrcWXxK4UR9VCA", "$pbkdf2$1000$MDEyMzQ1Njc4OWFiY2RlZg$dzCdfBAsm1gRaMC2q1v.SfJrl5w"},
	}
}
