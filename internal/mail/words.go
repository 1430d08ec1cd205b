package mail

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

const (
	// maxWords is how much of a reply is kept, in bytes: enough for the longest that large providers send,
	// not for a mail that is quoted whole.
	maxWords = 400
	// sharedRun is how many bytes in a row a word of a reply may have in common with the mail.
	sharedRun = 8
	// opaqueWord is the length from which a word that no language has is taken for something encoded.
	opaqueWord = 16
)

// hiddenWord stands for what servers quote: links, tokens, credentials. hiddenAddress stands for an address.
const (
	hiddenWord    = "(…)"
	hiddenAddress = "(address)"
)

// enhancedPrefix is an enhanced status code (RFC 3463) at the start of a line.
var enhancedPrefix = regexp.MustCompile(`(?m)^[ \t]*([245])\.\d{1,3}\.\d{1,3}(?:[ \t]+|$)`)

// enhancedCode is the one that a reply starts with, "" without one or if it is of another class than the
// code.
func enhancedCode(code int, text string) string {
	found := strings.TrimSpace(enhancedPrefix.FindString(text))
	if found == "" || !strings.HasPrefix(text, found) || found[:1] != strconv.Itoa(code/100) {
		return ""
	}
	return found
}

// quoted is what a server may quote and nobody else may see: the mail, and what the login was made with.
type quoted struct {
	mail   Message
	secret string
}

// words returns the part of a server's reply that may be shown. Servers quote what they refuse, and the mail
// holds a link that sets a password. So words leaves out addresses, every word of the mail that is not plain,
// the secret of the login, and all that looks encoded. The result is one line of printable characters.
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
		case bare != "" && strings.EqualFold(bare, domainOf(from)): // what SPF and DKIM are about
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

// quotes says whether the word shares a run with the mail that is more than a piece of a plain word.
func quotes(word, mail string) bool {
	word = strings.TrimPrefix(strings.TrimPrefix(word, "https://"), "http://")
	for i := 0; i+sharedRun <= len(word); i++ {
		if run := word[i : i+sharedRun]; !isPlain(run) && strings.Contains(mail, run) {
			return true
		}
	}
	return false
}

// isPlain: small letters, the first byte perhaps something else, with marks that words have inside.
func isPlain(run string) bool {
	for i := 1; i < len(run); i++ {
		if c := run[i]; (c < 'a' || c > 'z') && c != '-' && c != '\'' {
			return false
		}
	}
	return true
}

// isOpaque says whether a word is long and of the letters of base64 or hex, with a digit or a capital inside.
// Words with dots, slashes and colons are hosts and pages of help.
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
