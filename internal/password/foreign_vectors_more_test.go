package password

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func cryptVectors() []foreignVector {
	const long = "a very much longer text to encrypt.  This one even stretches over morethan one line."
	return []foreignVector{
		{drepper, "Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", ""},
		{drepper, "Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA", ""},
		{drepper, "This is just a test", "$5$rounds=5000$toolongsaltstrin$Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5", "$5$toolongsaltstrin$Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"},
		{drepper, long, "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1", ""},
		{drepper, "we have a short salt string but not a short password", "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/", ""},
		{drepper, "a short string", "$5$rounds=123456$asaltof16chars..$gP3VQ/6X7UUEW3HkBn2w1/Ptq2jxPyzV/cZKmF/wJvD", ""},
		{drepper, "the minimum number is still observed", "$5$rounds=1000$roundstoolow$yfvwcWrQ8l/K0DAWyuPMDNHpIVlTQebY9l/gL972bIC", ""},
		{drepper, "Hello world!", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", ""},
		{drepper, "Hello world!", "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.", ""},
		{drepper, long, "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1", ""},
		{passlib, "", "$5$rounds=10428$uy/jIAhCetNCTtb0$YWvUOXbkqlqhyoPMpN8BMe.ZGsGx2aBvxTvDFI613c3", ""},
		{hashcat, "hashcat", "$5$rounds=5000$GX7BopJZJxPc/KEK$le16UF8I2Anb.rOrn22AUPWvzUETDGefUmAV8AZkGcD", "$5$GX7BopJZJxPc/KEK$le16UF8I2Anb.rOrn22AUPWvzUETDGefUmAV8AZkGcD"},
		{hashcat, "hashcat", "$6$52450745$k5ka2p8bFuSmoVT1tzOyyuaREkkKBcCNqoDKzYiJL9RaE8yMnPgh2XzzF0NDrUhgrcLwg78xs1w5pJiypEdFX/", ""},
		{openssl, "hashcat", "{CRYPT}$5$Kq3.x/Zu$sbuYSCIuyOwNXmIETAKLUJEEfz2Wh6sQpqW.GHUXXU/", "$5$Kq3.x/Zu$sbuYSCIuyOwNXmIETAKLUJEEfz2Wh6sQpqW.GHUXXU/"},
		{openssl, "Tr0ub4dor&3 — é", "$6$Kq3.x/Zu$/TnnnS0dlUCwzI7KXJsiragKFVtzog8.NVgJjEr5zup62EiPDeTZto5EjxKStf4ZAwvWY3AoqlrWPIzBAZ6U80", ""},
		{libxcrypt, "Grüße", "$6$rounds=1234$abcdefghijklmnop$YNVsBNuyChbuvN8N4AX7pmxcciBLPMX2LeFipqiOEk1.8rNK4i2cjTUqeGVrmU1l4spvkmThz2Yz7mZA4QiHl/", ""},
		{libxcrypt, "", "$5$rounds=1000$saltsalt$Naw4j7Jsi9DJmo461n8iSYTXTcY98Ufoq.Xsn7KkFN7", ""},
		{kratos, "test", "$sha256-crypt$rounds=535000$05R.9KB6UC2kLI3w$Q/zslzx./JjkAVPTwp6th7nW5l7JU91Gte/UmIh.U78", "$5$rounds=535000$05R.9KB6UC2kLI3w$Q/zslzx./JjkAVPTwp6th7nW5l7JU91Gte/UmIh.U78"},
		{kratos, "ory", "$sha512-crypt$rounds=656000$0baQbxBrfpKqvizk$Q9cYk1MeNAlECPgpG3jjfNI2DumLqd0yHbxzLdxiX6nsSD5i9n0awcbiCf8R5DzpIYxeBPznPcb1wtzlgUKtH0", "$6$rounds=656000$0baQbxBrfpKqvizk$Q9cYk1MeNAlECPgpG3jjfNI2DumLqd0yHbxzLdxiX6nsSD5i9n0awcbiCf8R5DzpIYxeBPznPcb1wtzlgUKtH0"},

		{passlib, "U*U*U*U*", "$1$dXc3I7Rw$ctlgjDdWJLMT.qwHsWhXR1", ""},
		{passlib, "", "$1$Eu.GHtia$CFkL/nE1BYTlEPiVx1VWX0", ""},
		{passlib, "4lpHa N|_|M3r1K W/ Cur5Es: #$%(*)(*%#", "$1$jQS7o98J$V6iTcr71CGgwW2laf17pi1", ""},
		{passlib, upassTable, "$1$d6/Ky1lU$/xpf8m7ftmWLF.TjHCqel0", ""},
		{hashcat, "hashcat", "$1$28772684$iEwNOgGugqO9.bIz5sk8k/", ""},
		{openssl, "Tr0ub4dor&3 — é", "$1$Kq3.x/Zu$quETiINOMU31s2I6uueHg/", ""},
		{libxcrypt, strings.Repeat("pw", 60), "$1$saltsalt$MBynFvSo7o0kzImVzP8PU.", ""},
		{kratos, "test", "$md5-crypt$TVEiiKNb$SN6/pUaRQS/E8Jh46As2C/", "$1$TVEiiKNb$SN6/pUaRQS/E8Jh46As2C/"},
		{"httpd.apache.org/docs/2.2/misc/password_encryptions.html", "myPassword", "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", ""},
		{passlib, upassTable, "$apr1$bzYrOHUx$a1FcpXuQDJV3vPY20CS6N1", ""},
		{hashcat, "hashcat", "$apr1$71850310$gh9m4xcAn3MGxogwX/ztb.", ""},
		{openssl, "hashcat", "$apr1$Kq3.x/Zu$9qrulEIww5eUfx4aAnkxb/", ""},

		{"openwall.com/phpass phpass 0.3 test.php", "test12345", "$P$9IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0", ""},
		{passlib, "test1", "$H$9aaaaaSXBjgypwqm.JsMssPLiS8YQ00", "$P$9aaaaaSXBjgypwqm.JsMssPLiS8YQ00"},
		{passlib, "JohnRipper", "$P$B12345678L6Lpt4BxNotVIMILOa9u81", ""},
		{passlib, "", "$P$7JaFQsPzJSuenezefD/3jHgt5hVfNH0", ""},
		{passlib, "compL3X!", "$P$FiS0N5L672xzQx1rt1vgdJQRYKnQM9/", ""},
		{passlib, upassTable, "$P$7SMy8VxnfsIy2Sxm7fJxDSdil.h7TW.", ""},
		{hashcat, "hashcat", "$P$984478476IagS59wHZvyQMArzfx58u.", ""},
	}
}

func saltedVectors() []foreignVector {
	return []foreignVector{
		{"passlib documentation, ldap_salted_sha1", "password", "{SSHA}pKqkNr1tq3wtQqk+UcPyA3HnA2NsU5NJ", ""},
		{hashcat, "hashcat", "{SSHA}AZKja92fbuuB9SpRlHqaoXxbTc43Mzc2MDM1Ng==", ""},
		{hashcat, "hashcat", "{SSHA256}OZiz0cnQ5hgyel3Emh7NCbhBRCQ+HVBwYplQunHYnER7TLuV", ""},
		{hashcat, "hashcat", "{SSHA512}ALtwKGBdRgD+U0fPAy31C28RyKYx7+a8kmfksccsOeLknLHv2DBXYI7TDnTolQMBuPkWDISgZr2cHfnNPFjGZTEyNDU4OTkw", ""},
		{kratos, "test123", "{SSHA}JFZFs0oHzxbMwkSJmYVeI8MnTDy/276a", ""},
		{kratos, "test123", "{SSHA256}czO44OTV17PcF1cRxWrLZLy9xHd7CWyVYplr1rOhuMlx/7IK", ""},
		{kratos, "test123", "{ssha512}xPUl/px+1cG55rUH4rzcwxdOIPSB2TingLpiJJumN2xyDWN4Ix1WQG3ihnvHaWUE8MYNkvMi5rf0C9NYixHsE6Yh59M", "{SSHA512}xPUl/px+1cG55rUH4rzcwxdOIPSB2TingLpiJJumN2xyDWN4Ix1WQG3ihnvHaWUE8MYNkvMi5rf0C9NYixHsE6Yh59M="},
	}
}

func TestForeignVectors(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 2, Queue: 1000})
	for _, v := range foreignVectors() {
		t.Run(v.encoded[:min(len(v.encoded), 30)], func(t *testing.T) {
			t.Parallel()
			stored, err := Canonical(v.encoded)
			if err != nil {
				t.Fatalf("%s: %v", v.source, err)
			}
			if want := v.stored; want != "" && stored != want || want == "" && stored != v.encoded {
				t.Errorf("%s: stored as %s", v.source, stored)
			}
			if again, err := Canonical(stored); err != nil || again != stored {
				t.Errorf("stored text becomes %s: %v", again, err)
			}
			id := strings.HasPrefix(stored, "$argon2id$")
			result, err := h.Verify(t.Context(), Claim{}, stored, v.password)
			cut := strings.HasPrefix(stored, "$2") && len(v.password) >= 72
			if err != nil || result != (Result{Match: true, Weaker: !id && !cut}) {
				t.Errorf("%s: %+v, %v", v.source, result, err)
			}
			// bcrypt does not read beyond 72 bytes, so the change is at the beginning.
			if result, err := h.Verify(t.Context(), Claim{}, stored, "x"+v.password); err != nil || result != (Result{}) {
				t.Errorf("wrong password: %+v, %v", result, err)
			}
			if v.stored != "" && v.encoded != stored {
				if _, err := h.Verify(t.Context(), Claim{}, v.encoded, v.password); !errors.Is(err, ErrMalformedHash) {
					t.Errorf("what is not canonical verifies: %v", err)
				}
			}
		})
	}
}

// Formats with separate fields lead to the same text as formats that keep all parts together.
func TestForeignParts(t *testing.T) {
	t.Parallel()
	h := newHasher(t, Config{Slots: 1, Queue: 10})
	decode := func(text string) []byte {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	unhex := func(text string) []byte {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	// A project's parameters and account: from the README of firebase/scrypt, and from the integration tests of
	// github.com/firebase/firebase-admin-python.
	firebase := FirebaseScrypt{SignerKey: decode(firebaseSigner), SaltSeparator: decode("Bw=="), Rounds: 8, MemCost: 14}
	for name, test := range map[string]struct {
		password string
		encode   func() (string, error)
	}{
		"firebase/scrypt": {"user1password", func() (string, error) {
			return firebase.Encode(decode("42xEC+ixf3L2lw=="), decode("lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="))
		}},
		"firebase-admin-python": {"password", func() (string, error) {
			return firebase.Encode([]byte("NaCl"), decode("V358E8LdWJXAO7muq0CufVpEOXaj8aFiC7T/rcaGieN04q/ZPJ08WhJEHGjj9lz/2TT+/86N5VjVoc5DdBhBiw=="))
		}},
		// From realm exports of running Keycloaks, public on GitHub: with 32 bytes of key, and with 64, which Keycloak
		// derives from SHA-256 by default.
		"Keycloak 32": {"password", func() (string, error) {
			return PBKDF2("sha256", 27500, decode("P5rtFkGtPfoaryJ6PizUJw=="), decode("JsfNbCOIdZUbyBJ+BT+VoGI91Ec2rWLOvkLPDaX8e9k="))
		}},
		"Keycloak 64": {"password", func() (string, error) {
			return PBKDF2("sha256", 27500, decode("sZmxNOK9vr12uXWu7xGltQ=="), decode("E1wOmdX7G+d0xjw9LLbgcu7rKhhCkfqVK1oBSuu6W3dc5yjJ/lKGMkKF9AW0iNnEm0X/wRYFvTyWXh3fjhkb3g=="))
		}},
		// RFC 6070 has keys of 20 bytes and more; its fifth case has 25.
		"RFC 6070 case 3": {"password", func() (string, error) {
			return PBKDF2("sha1", 4096, []byte("salt"), unhex("4b007901b765489abead49d926f721d065a429c1"))
		}},
		"RFC 6070 case 5": {"passwordPASSWORDpassword", func() (string, error) {
			return PBKDF2("sha1", 4096, []byte("saltSALTsaltSALTsaltSALTsaltSALTsalt"), unhex("3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"))
		}},
		argon2Reference: {"password", func() (string, error) {
			return Argon2("i", 19, Params{256, 2, 1}, []byte("somesalt"), unhex("89e9029f4637b295beb027056a7336c414fadd43f6b208645281cb214a56452f"))
		}},
	} {
		stored, err := test.encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if result, err := h.Verify(t.Context(), Claim{}, stored, test.password); err != nil || result != (Result{Match: true, Weaker: true}) {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
		if result, err := h.Verify(t.Context(), Claim{}, stored, test.password+"x"); err != nil || result.Match {
			t.Errorf("%s, wrong password: %+v, %v", name, result, err)
		}
	}
}
