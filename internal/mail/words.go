package mail

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

const (
	// maxWords is how many bytes of a reply are kept. It is enough for the longest replies of large providers, but not
	// for a quoted mail.
	maxWords = 400
	// sharedRun is how many bytes in a row a word of a reply may have in common with the mail.
	sharedRun = 8
	// opaqueWord is the length from which a word that does not look like a word of a language counts as encoded data.
	opaqueWord = 16
)

// hiddenWord replaces everything secret that servers may quote: links, tokens, credentials. hiddenAddress replaces an
// address.
const (
	hiddenWord    = "(…)"
	hiddenAddress = "(address)"
)

// enhancedPrefix is an enhanced status code (RFC 3463) at the start of a line.
var enhancedPrefix = regexp.MustCompile(`(?m)^[ \t]*([245])\.\d{1,3}\.\d{1,3}(?:[ \t]+|$)`)

// enhancedCode returns the enhanced status code at the start of a reply. It returns "" if there is none, or if its
// class differs from that of the code.
func enhancedCode(code int, text string) string {
	found := strings.TrimSpace(enhancedPrefix.FindString(text))
	if found == "" || !strings.HasPrefix(text, found) || found[:1] != strconv.Itoa(code/100) {
		return ""
	}
	return found
}

// quoted has the data that a server may quote and nobody else may see: the mail, and the credentials of the login.
type quoted struct {
	mail   Message
	secret string
}

// words returns the part of a server's reply that may be shown. Servers quote the mail that they refuse, and the mail
// has a link that sets a password. So words removes addresses, every word of the mail that is not plain, the secret of
// the login, and everything that looks encoded. The result is one line of printable characters.
func words(reply string, q quoted, from string) string {
	m := q.mail
	if q.secret != "" {
		reply = strings.ReplaceAll(reply, q.secret, hiddenWord)
	}
	reply = enhancedPrefix.ReplaceAllString(strings.ToValidUTF8(reply, "?"), "")
	local, _, _ := strings.Cut(m.To, "@")
	var b strings.Builder
	var last string
	for _, word := range strings.FieldsFunc(reply, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }) {
		bare := strings.Trim(word, "()<>[]\"'.,:;!?")
		switch {
		case strings.Contains(word, "@"), local != "" && strings.EqualFold(bare, local):
			word = hiddenAddress
		case bare != "" && strings.EqualFold(bare, domainOf(from)): // the domain that SPF and DKIM check
		case isOpaque(bare) || quotes(bare, m.Text) || quotes(bare, m.HTML):
			word = hiddenWord
		}
		if word == hiddenWord && last == hiddenWord {
			continue
		}
		if b.Len()+len(word) > maxWords {
			b.WriteString(" …")
			break
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
		last = word
	}
	return b.String()
}

// quotes returns whether the word shares a run with the mail that is more than a piece of a plain word.
func quotes(word, mail string) bool {
	word = strings.TrimPrefix(strings.TrimPrefix(word, "https://"), "http://")
	for i := 0; i+sharedRun <= len(word); i++ {
		if run := word[i : i+sharedRun]; !isPlain(run) && strings.Contains(mail, run) {
			return true
		}
	}
	return false
}

// isPlain returns whether the run has only small letters, and marks that occur within words. Its first byte may be
// anything.
func isPlain(run string) bool {
	for i := 1; i < len(run); i++ {
		if c := run[i]; (c < 'a' || c > 'z') && c != '-' && c != '\'' {
			return false
		}
	}
	return true
}

// isOpaque returns whether a word is long, has only characters of base64 or hex, and has a digit or a capital inside.
// Words with dots, slashes and colons are hosts and help pages.
func isOpaque(word string) bool {
	if len(word) < opaqueWord {
		return false
	}
	odd := false
	for i, c := range word {
		switch {
		case 'a' <= c && c <= 'z':
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', c == '+', c == '=':
			odd = odd || i > 0
		case c == '_', c == '-':
		default:
			return false
		}
	}
	return odd
}
