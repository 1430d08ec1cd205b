package accountpages

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

const (
	// scriptPrefix begins the names of texts that the script shows, kindPrefix those of audit events.
	scriptPrefix, kindPrefix = "s_", "k_"
	// languageCookie keeps the language that a person has chosen. The server sets it and reads it as one of a few words.
	languageCookie = "latchkey_language"
	languageAge    = 365 * 24 * 60 * 60
	// productMark stands for the name of the service in texts.
	productMark = "{product}"
)

// ErrOwn means that a file of the operator's cannot be used. The text names the file and what is wrong.
var ErrOwn = errors.New("account pages")

// texts are those of one language.
type texts struct {
	tag                          language.Tag
	page, script, scriptAndKinds map[string]string
}

// loadTexts returns the languages, English first. own has the operator's texts by language: they replace ours one by one.
// In a language that we do not have, what is missing is English.
func loadTexts(own map[string]map[string]string, product string) ([]*texts, error) {
	all := map[string]map[string]string{}
	english, err := ours("en")
	if err != nil {
		return nil, err
	}
	german, err := ours("de")
	if err != nil {
		return nil, err
	}
	all["en"], all["de"] = english, german
	for tag, replaced := range own {
		base := all[tag]
		if base == nil {
			base = maps.Clone(english)
		}
		for name, text := range replaced {
			if _, known := english[name]; !known {
				return nil, fmt.Errorf("%w: texts.%s.json has %q, which is no text of the pages", ErrOwn, tag, name)
			}
			base[name] = text
		}
		if tag != "en" && tag != "de" && replaced["language"] == "" {
			return nil, fmt.Errorf(`%w: texts.%s.json has no "language", the name of the language in itself`, ErrOwn, tag)
		}
		all[tag] = base
	}
	tags := slices.Sorted(maps.Keys(all))
	slices.SortStableFunc(tags, func(a, b string) int { // English is the language of those who ask for none that there is
		switch {
		case a == "en" && b != "en":
			return -1
		case b == "en" && a != "en":
			return 1
		}
		return 0
	})
	var list []*texts
	for _, name := range tags {
		tag, err := language.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("%w: texts.%s.json is not named by the tag of a language (BCP 47)", ErrOwn, name)
		}
		list = append(list, split(tag, all[name], product))
	}
	return list, nil
}

func ours(tag string) (map[string]string, error) {
	body, err := files.ReadFile(path.Join("texts", tag+".json"))
	if err != nil {
		return nil, err
	}
	var all map[string]string
	return all, json.Unmarshal(body, &all)
}

// split divides texts into those of templates and those of the script, so that a page carries only what it can show.
func split(tag language.Tag, all map[string]string, product string) *texts {
	t := &texts{tag: tag, page: map[string]string{}, script: map[string]string{}, scriptAndKinds: map[string]string{}}
	for name, text := range all {
		text = strings.ReplaceAll(text, productMark, product)
		switch {
		case strings.HasPrefix(name, kindPrefix):
			t.scriptAndKinds[name] = text
		case strings.HasPrefix(name, scriptPrefix):
			t.script[name], t.scriptAndKinds[name] = text, text
		default:
			t.page[name] = text
		}
	}
	return t
}

// choose returns the language of an answer: the one in the link, which is then kept, or the one that was kept, or the
// best of those that the browser asks for.
func (p *Pages) choose(w http.ResponseWriter, r *http.Request) *texts {
	if asked := p.named(r.URL.Query().Get("lang")); asked != nil {
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: a language is no secret, and a proxy may speak https for us
			Name: languageCookie, Value: asked.tag.String(), Path: Root, MaxAge: languageAge, SameSite: http.SameSiteLaxMode, HttpOnly: true,
			Secure: r.TLS != nil,
		})
		return asked
	}
	if kept, err := r.Cookie(languageCookie); err == nil {
		if asked := p.named(kept.Value); asked != nil {
			return asked
		}
	}
	header := r.Header.Get("Accept-Language")
	if len(header) > 256 { // browsers send some 60 bytes
		header = ""
	}
	_, i := language.MatchStrings(p.matcher, header)
	return p.languages[i]
}

func (p *Pages) named(tag string) *texts {
	for _, one := range p.languages {
		if one.tag.String() == tag {
			return one
		}
	}
	return nil
}
