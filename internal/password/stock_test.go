package password

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// stockContext is the account whose passwords stockGuesses are tried as.
func stockContext() (Policy, []string) {
	return Policy{Service: []string{"https://auth.acme-tools.example", "Hammerhead <no-reply@acme-tools.example>", "latchkey"}},
		[]string{"nora.stone84@example.com", "nora.stone84", "Nora", "Stone"}
}

// stockGuesses are the first passwords of leaked lists, and those that attackers try on companies' accounts, in the
// forms that people choose to satisfy rules of composition.
const stockGuesses = `
Password1! Password123! Password2026! Password@123 P@ssw0rd1 P@ssw0rd123 Passw0rd! Passw0rd2026 P@$$w0rd1! Pa$$word123 Pa55word! p4ssw0rd!
PASSWORD1 pAsSwOrD12 Password!@# Password.1 Password_2024 1Password! 123password !Password1 password12345 Password1Password1 drowssaP1!
MyPassword1! NewPassword1! Mypassword123 ThisIsMyPassword1 Pass@word1 Pass1234! Passwd2026! passphrase1 Secret123! TopSecret1 Private2025!
Welcome1! Welcome123! Welcome@2026 Welcome2026! W3lcome2026! WelcomeBack1 Welcome2Company! Hello123! HelloWorld1! Hello2026! Letmein1!
Letmein2026 LetMeIn123! L3tm31n! Changeme1! ChangeMe123! Ch@ngeme1 ChangeIt2026 ChangeThis1! Changeme2026! Reset123! Temp1234! Temporary1!
Default123! Initial2026! Start123! Login123! Login2026! Access2026 Access123! Guest1234 Testing123! Test1234! Test@123 Tester2025
Admin123! Admin@123 Admin2026! Administrator1! @dm1n1234 adm1n1strator Root1234! Superuser1 Sysadmin2026! User1234! Manager2026$ Support2026!
Helpdesk1! Service123! Office2026! Office365! Microsoft365! Company2026 Company123! Business2026 Finance2026! Marketing2026! Hr2026hr2026 Security1!
Secure2026! Server2026! Backup123! Database1! Oracle123 Cisco123! cisco@123 Postgres1! Raspberry1 Ubuntu2026 Linux2025! Cloud2026!
Summer2026! Summer26! Summer@2026 Summer.2026 summer_2026! Summ3r2026! Winter2025! Winter22/23 Winter2022/2023 Spring2027 Autumn2026! Fall2026!!
Sommer2026! Sommer24! Herbst2026! Frühling2026! Winter2031! Printemps2026 Automne2026! Verano2026! Otoño2026! Primavera1 Zomer2026!
January2026! Januar2026! Jan2026!! Februar2026! Février2026! March2026! März2026! Maerz2026! Mai2026!! Juni2026! July2026! August2026! September1
October2026 Octubre2026! November11! December2025! Dezember2025! Décembre25! Monday1! Montag2026! Friday123! Sunday2026 Freitag13!
Christmas2026! Xmas2026! Weihnachten1 Halloween31 Covid2021! Corona2020! Lockdown2021 Vaccine2021! WorldCup2026! Olympics2028
Qwerty123! Qwerty1! Qwertyuiop1 Qwertz123! Azerty123! Qwer1234! Asdf1234! Asdfghjkl1 Zxcvbnm1! Zxcvbn123 1q2w3e4r5t 1Q2w3e4r! q1w2e3r4t5
1qaz2wsx 1qaz@WSX 1qaz2wsx3edc !QAZ2wsx !QAZ@WSX zaq12wsx Zaq1@wsx zaq1zaq1 qazwsxedc qweasdzxc Qwe123!@# asd123asd123 qwe123qwe 6yhn7ujm
0okm9ijn poiuytrewq mnbvcxz1 asdfjkl; aabbccdd qqww1122 yxcvbnm123
Abcd1234! Abc123456 Abc123!@# ABCabc123! abc123abc123 Abcdef1! Aa123456! Aa@123456 A1234567 a1b2c3d4 Ab123456 12345678 123456789a
1234567890 12345678! 87654321 123123123 12341234 11111111 00000000 11223344 12121212 147258369 159753159 1234qwer 123qweasd 123abc123
15.03.1987 15031987 1987-03-15 03151987 19870315 March1987! 20262026 19991999 01012000
iloveyou1 ILoveYou2! Iloveyou123 iloveu123 Loveyou1! Sunshine1! Princess1! Dragon123! Monkey123! Football1! Baseball1! Liverpool2025! Chelsea1905!
Arsenal123! Barcelona10 RealMadrid7! Superman1! Batman123! Starwars77 Pokemon25! Pikachu123 Minecraft1! Michael23! Jessica2003 Ashley123! Jordan23!
Charlie1! Thomas123 Jesus123! Jesus777 Bismillah786 Krishna@108 GodIsGreat1! Trustno1! Master123! Shadow123! Killer123! Hunter22! Ninja1234
Computer1! Internet1! Samsung123 Google123! Facebook1! Ferrari1! Mustang69! London2026! Berlin2026! Paris2024! Germany1! India@123 America1! Canada123
Hallo123! Passwort1! Passwort123 Pa55wort! Geheim123! Willkommen1! Schatz123! Fußball1! Schalke04! Bonjour123! Motdepasse1 Bienvenue1!
Contraseña1! Contrasena123 Hola1234! Bienvenido1 Senha123! Benvenuto1! Wachtwoord1! Haslo123! Salasana1
Nora1990 Nora2026! Nora.2026 NoraNora1! N0ra2026! Nora123! nora!nora! Stone2026! St0ne1990! Norastone1! NoraStone2026 Stone.Nora1 Nora.Stone84
Nora_Stone_84! aron2026! Example2026! Example123! Acme2026! @cme2026! Acmetools1! Acme-Tools2026 Hammerhead1! Hammerhead2026 H4mmerh3ad! Latchkey2026!
Latchkey123 L@tchkey1! latchkeylatchkey AcmeAcme26! WelcomeAcme1! Acme@123
`

// goodPasswords are random ones, phrases, and combinations of words that nobody would try first.
const goodPasswords = `
kV9#xq2z|x7Gq0pLw|t4Rm-9zK|Zb6!vT3q|9fKq2LwX|gR7.hU2c|wq8Zx-Lp|Hn5vTq9b|bQ3rXz7m|uJ6k#Wd4|c8GyVt2n|zL4pRm9s|Xk2vBq8d|y5TnWc3h
qhzvmkpd|wubxqnfe|k3v9x2m7q1|Tq8vLm2xRz|dKx9-Wm4v-Qz7b|f0e9c4b7a2d8|J8hQ2vXn5ZkT|p7#Lq!9xVz|m4Zt8Kq2Wb6y|vBn3.xQz8.Lk5|=r{7Wq>2h
correct horse|correct horse battery|correct horse battery staple|correcthorsebatterystaple|purple-elephant-tuba|another fine password|a third fine password
pässwörter sind lang|drei Enten tanzen Walzer|quatre chats sous la pluie|el gato duerme en marzo|my cat eats 3 lemons|not this password
nine yellow kettles|tuba lantern gravel|lantern-gravel-09|obsidian kettle 44 tango|gravel.kettle.tuba|we left Oslo by sled|rain on a tin roof
seven doors, one key|Under the desk, a newt|summer rain smells of tar|welcome the odd lantern|the admin ate my lunch|password of my late aunt|two winters in Kyoto
kettle7gravel|plover-anvil|mossy.quilt.anvil|EelsInTheAttic|thimble&walrus|Walrus4thimble!|grommet Yaks 12|ostrich_bandana|yodel-sprocket-3
Nora eats blue gravel|Stone bridges sway twice|acme of quiet otters|hammerhead eats my kayak|the latchkey hangs by the stove
пароль42|красный чайник поёт|密码学 是 有趣的 学问|赤い やかん が 歌う|चाय की केतली गाती|🔑🔑🔑🔑🐎🐎🐎🐎|κόκκινος βραστήρας|la bouilloire chante à 6h
a b c d e f|A-brand-new-1!|another-Passw0rd of mine|it rained on 15.03.1987 in Bergen|kV9#xq2zkV9#xq2|2 owls; 1 mouse; 0 cheese`

func TestStockGuesses(t *testing.T) {
	t.Parallel()
	policy, context := stockContext()
	list := strings.Fields(stockGuesses)
	if len(list) < 300 {
		t.Errorf("%d guesses", len(list))
	}
	for _, password := range list {
		for _, spelled := range []string{password, strings.ToUpper(password), fullWidth(password), strings.Join(strings.Split(password, ""), "\u200b")} {
			if err := policy.Check(spelled, context...); !errors.Is(err, ErrTooCommon) {
				t.Errorf("%q: %v", spelled, err)
			}
		}
	}
}

// fullWidth writes ASCII in the forms that NFKC converts back to ASCII.
func fullWidth(text string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r <= '~' {
			return r - '!' + '！'
		}
		return r
	}, text)
}

// TestYearsDoNotAge: a password that is refused today with this year is refused with any year.
func TestYearsDoNotAge(t *testing.T) {
	t.Parallel()
	policy, context := stockContext()
	for year := range 200 {
		text := string([]byte{byte('0' + (year/100+19)/10), byte('0' + (year/100+19)%10), byte('0' + year/10%10), byte('0' + year%10)})
		for _, form := range []string{"Summer#!", "Welcome#", "Nora#!!", "Acme.#", "#Hammerhead", "Passwort_#", "Januar*!"} {
			password := strings.ReplaceAll(strings.ReplaceAll(form, "#", text), "*", text[2:])
			if policy.Check(password, context...) == nil {
				t.Errorf("%q is accepted", password)
			}
		}
	}
}

func TestGoodPasswords(t *testing.T) {
	t.Parallel()
	policy, context := stockContext()
	list := strings.Split(strings.ReplaceAll(strings.TrimSpace(goodPasswords), "\n", "|"), "|")
	if len(list) < 80 {
		t.Errorf("%d passwords", len(list))
	}
	for _, password := range list {
		if err := policy.Check(password, context...); err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
}

// dice returns numbers that are the same in each run of the tests, so that a bound on a share holds always or never.
type dice struct {
	seed, at uint64
}

func (d *dice) below(n int) int {
	d.at++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, d.seed), d.at))
	return int(binary.BigEndian.Uint64(sum[:]) % uint64(n))
}

func (d *dice) text(alphabet string, length int) string {
	text := make([]byte, length)
	for i := range text {
		text[i] = alphabet[d.below(len(alphabet))]
	}
	return string(text)
}

// TestFewGoodOnesAreRefused: fewer than 1 in 1,000 are refused, of 10,000 random passwords of a kind and of 10,000
// phrases whose words are all on the list.
func TestFewGoodOnesAreRefused(t *testing.T) {
	t.Parallel()
	const (
		lower   = "abcdefghijklmnopqrstuvwxyz"
		alnum   = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		all     = alnum + "!#$%&()*+,-./:;<=>?@[]^_{|}~"
		samples = 10_000
	)
	var words []string
	for word := range Words() {
		if len(word) >= 4 && len(word) <= 8 && strings.Trim(word, lower) == "" {
			words = append(words, word)
		}
	}
	phrase := func(d *dice, n int, between string) string {
		var parts []string
		for range n {
			parts = append(parts, words[d.below(len(words))])
		}
		return strings.Join(parts, between)
	}
	policy, context := stockContext()
	for i, kind := range []struct {
		name string
		make func(*dice) string
	}{
		{"letters and digits, 8", func(d *dice) string { return d.text(alnum, 8) }},
		{"letters and digits, 8 to 12", func(d *dice) string { return d.text(alnum, 8+d.below(5)) }},
		{"everything, 8", func(d *dice) string { return d.text(all, 8) }},
		{"everything, 8 to 12", func(d *dice) string { return d.text(all, 8+d.below(5)) }},
		{"small letters, 8", func(d *dice) string { return d.text(lower, 8) }},
		{"four words", func(d *dice) string { return phrase(d, 4, " ") }},
		{"four words in one", func(d *dice) string { return phrase(d, 4, "") }},
		{"three words", func(d *dice) string { return phrase(d, 3, "-") }},
	} {
		d := &dice{seed: uint64(i)}
		var refused []string
		for range samples {
			if password := kind.make(d); policy.Check(password, context...) != nil {
				refused = append(refused, password)
			}
		}
		t.Logf("%s: %d of %d refused", kind.name, len(refused), samples)
		if len(refused)*1000 >= samples {
			t.Errorf("%s: %d of %d are refused, such as %q", kind.name, len(refused), samples, refused[:5])
		}
	}
}

// hostile are passwords of the greatest length that cause the most work.
func hostile() []string {
	var list []string
	for _, unit := range []string{
		"1", "0", "!", "@", "a", "1!", "1!|il", "50l0$", "4@8({[<369!1|0$57%2", "1q2w3e4r", "1052!7@", "ab1", "m0n1c@", "qazwsx", "p@5", "2000",
		"0102", "abcdefghij", "ag", "\ufdfa", "пароль", "1l", "s5$", "31",
	} {
		text := []rune(strings.Repeat(unit, MaxLength))
		list = append(list, string(text[:MaxLength]))
	}
	return list
}

// TestJudgementIsBounded: the work consists of the parts, each examined once for each position where one may be
// repeated, and of the search for words. Both are bounded for any password. BenchmarkPolicy has the time.
func TestJudgementIsBounded(t *testing.T) {
	t.Parallel()
	_, context := stockContext()
	for _, password := range hostile() {
		j := judge([]rune(fold(password)), context)
		parts := 0
		for _, from := range j.parts {
			parts += len(from)
		}
		if len(j.text) > maxJudged || parts > maxSteps {
			t.Errorf("%.20q: %d parts in %d code points", password, parts, len(j.text))
		}
	}
}

func BenchmarkPolicy(b *testing.B) {
	policy, context := stockContext()
	for name, list := range map[string][]string{
		"stock": strings.Fields(stockGuesses), "good": strings.Split(goodPasswords, "|"), "hostile": hostile(),
	} {
		slices.Sort(list)
		b.Run(name, func(b *testing.B) {
			for i := range b.N {
				_ = policy.Check(list[i%len(list)], context...)
			}
		})
	}
}
