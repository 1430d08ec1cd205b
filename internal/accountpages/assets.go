package accountpages

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// asset is a file that pages load. It is the same for everybody, so it may be kept and compressed.
type asset struct {
	contentType string
	plain       []byte
	// packed returns it compressed. It is compressed once, when somebody asks for it.
	packed func() []byte
}

// icon is what browsers show beside the title, unless there is a logo: a keyhole.
const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="#1a5fb4"/>` +
	`<path d="M8 3a3 3 0 0 0-1.5 5.600L6 13h4l-.5-4.400A3 3 0 0 0 8 3z" fill="#fff"/></svg>`

// newAssets returns the files by name, and the version in their addresses, which changes with any of them.
func newAssets(cfg Config) (map[string]*asset, string, error) {
	script, err := files.ReadFile("static/pages.js")
	if err != nil {
		return nil, "", err
	}
	style, err := files.ReadFile("static/pages.css")
	if err != nil {
		return nil, "", err
	}
	colors, err := colorStyle(cfg.Color)
	if err != nil {
		return nil, "", err
	}
	all := map[string]*asset{
		"pages.js":  {contentType: "text/javascript; charset=utf-8", plain: script},
		"icon.svg":  {contentType: "image/svg+xml", plain: []byte(icon)},
		"pages.css": {contentType: "text/css; charset=utf-8", plain: append(style, colors...)},
	}
	if cfg.Own.Style != nil {
		all["own.css"] = &asset{contentType: "text/css; charset=utf-8", plain: cfg.Own.Style}
	}
	if cfg.Own.Logo != nil {
		all["logo"] = &asset{contentType: cfg.Own.LogoType, plain: cfg.Own.Logo}
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		one := all[name]
		one.packed = sync.OnceValue(func() []byte { return pack(one.plain) })
		_, _ = sum.Write([]byte(name + "\x00" + strconv.Itoa(len(one.plain)) + "\x00"))
		_, _ = sum.Write(one.plain)
	}
	return all, hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

func pack(plain []byte) []byte {
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is valid
	_, _ = w.Write(plain)                                      // a bytes.Buffer takes everything
	_ = w.Close()
	return packed.Bytes()
}

// serveAsset answers with the present file also for another version: while replicas are replaced one by one, a page of
// the new one may ask the old one.
func (p *Pages) serveAsset(w http.ResponseWriter, r *http.Request) {
	one := p.assets[r.PathValue("name")]
	if one == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", one.contentType)
	// An image that is opened by itself runs nothing. Its own styles are its own.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	h.Set("Vary", "Accept-Encoding")
	if r.PathValue("version") == p.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := one.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		if packed := one.packed(); len(packed) < len(body) {
			h.Set("Content-Encoding", "gzip")
			body = packed
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // an error means that the reader has hung up
}
