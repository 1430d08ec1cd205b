package server_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	accounts "github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// An account whose hash another program made logs in with its password. The first login rewrites the hash, which ends
// no session. A wrong password does not change it. The hashes are vectors of internal/password.
func TestForeignHash(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	for name, test := range map[string]struct {
		hash, password string
		again          string // another way to type it, for the second login
	}{
		"bcrypt":   {hash: "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", password: "U*U"},
		"argon2i":  {hash: "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$T/XOJ2mh1/TIpJHfCdQan76Q5esCFVoT5MAeIM1Oq2E", password: "password"},
		"keycloak": {hash: "$pbkdf2-sha256$27500$P5rtFkGtPfoaryJ6PizUJw$JsfNbCOIdZUbyBJ.BT.VoGI91Ec2rWLOvkLPDaX8e9k", password: "password"},
		"firebase": {
			hash:     "$firescrypt$ln=14,r=8,p=1$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==$Bw==$jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==",
			password: "user1password",
		},
		// Made from the two code points that were typed, which is not the NFC form.
		"not in NFC": {
			hash:     "$6$rounds=1234$abcdefghijklmnop$3sOn/obtN8nq1sCcK7Fb/ykk5z8RhSCpkw5gyajHtBjk2DP531MxOFqXi1a9PDmNsJYVftnga3RHob11yAMIj/",
			password: "Gru\u0308\u00dfe", again: "Gr\u00fc\u00dfe",
		},
		// Made from the NFC form, typed in another form.
		"typed otherwise": {
			hash:     "bcrypt_sha256$$2a$08$NDjSAIcas.EcoxCRiArvT.MkNiPYVhrsrnJsRkLueZOoV1bsQqlmC",
			password: "le\u0300tmein", again: "l\u00e8tmein",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := strings.ReplaceAll(name, " ", ".") + "@example.com"
			insertHash(t, s, address, test.hash)
			wantRefused(t, tryLogin(t.Context(), s, address, "x"+test.password), codes.Unauthenticated, "INVALID_CREDENTIALS")
			if got := storedHash(t, s, address); got != test.hash {
				t.Fatalf("a wrong password leaves %s", got)
			}
			first := logInWith(t, s, address, test.password)
			rewritten := storedHash(t, s, address)
			if !strings.HasPrefix(rewritten, "$argon2id$v=19$m=64,t=1,p=1$") {
				t.Fatalf("stored is %s", rewritten)
			}
			for _, typed := range []string{test.password, test.again} {
				if typed != "" {
					logInWith(t, s, address, typed)
				}
			}
			if got := storedHash(t, s, address); got != rewritten {
				t.Errorf("rewritten once more, to %s", got)
			}
			wantRefused(t, tryLogin(t.Context(), s, address, "x"+test.password), codes.Unauthenticated, "INVALID_CREDENTIALS")
			wantValid(t, s, first.GetAccessToken(), 0)
			refresh(t, s, first.GetRefreshToken(), "")
			if n := count(t, s, "SELECT count(*) FROM revocations r JOIN users u ON u.id = r.user_id WHERE u.email = $1", address); n != 0 {
				t.Errorf("%d revocations", n)
			}
		})
	}
}

// An Argon2id hash that is stronger than the setting is not rewritten. No password matches a hash that is out of
// bounds, or not in the stored form.
func TestForeignHashKept(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	const stronger = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	insertHash(t, s, "stronger@example.com", stronger)
	logInWith(t, s, "stronger@example.com", "password")
	if got := storedHash(t, s, "stronger@example.com"); got != stronger {
		t.Errorf("rewritten to %s", got)
	}
	for address, hash := range map[string]string{
		"cost@example.com":  "$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"form@example.com":  "bcrypt$$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		"kind@example.com":  "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
		"plain@example.com": "U*U",
	} {
		insertHash(t, s, address, hash)
		wantRefused(t, tryLogin(t.Context(), s, address, "U*U"), codes.Unauthenticated, "INVALID_CREDENTIALS")
		if got := storedHash(t, s, address); got != hash {
			t.Errorf("%s: rewritten to %s", address, got)
		}
	}
}

// Half of the accounts have bcrypt hashes, and so have half of the decoys, because the hasher gets a sample of the
// database.
func TestForeignDecoys(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	insertHash(t, s, "bcrypt@example.com", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW")
	decoys, err := accounts.StoredSettings(t.Context(), s.Pool)
	if err != nil || len(decoys) != 2 || decoys[0].Weight != 1 || decoys[1].Weight != 1 {
		t.Fatalf("%+v, %v", decoys, err)
	}
	for _, decoy := range decoys {
		if decoy.Setting != "$2a$05$" && decoy.Setting != "$argon2id$v=19$m=64,t=1,p=1$" {
			t.Errorf("the sample gives %q", decoy.Setting)
		}
	}
}

func insertHash(t *testing.T, s *testenv.Server, address, hash string) {
	t.Helper()
	execSQL(t, s, "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ($1, $2, 'Ada', 'Lovelace')", address, hash)
}

func storedHash(t *testing.T, s *testenv.Server, address string) (hash string) {
	t.Helper()
	if err := s.Pool.QueryRow(t.Context(), "SELECT password_hash FROM users WHERE email = $1", address).Scan(&hash); err != nil {
		t.Fatal(err)
	}
	return hash
}

func logInWith(t *testing.T, s *testenv.Server, address, typed string) *latchkeyv1.Tokens {
	t.Helper()
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address, Password: typed})
	if err != nil {
		t.Fatalf("log in %s: %v", address, err)
	}
	return resp.GetTokens()
}
