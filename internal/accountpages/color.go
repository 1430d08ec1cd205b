package accountpages

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
)

// contrast is the least ratio between text and what it is on (WCAG 2.2, 1.4.3 and 1.4.11).
const contrast = 4.5

type rgb [3]float64 // 0 to 255

// The backgrounds of style.css.
func lightGround() rgb { return rgb{255, 255, 255} }

func darkGround() rgb { return rgb{0x1b, 0x1e, 0x24} }

// ParseColor reads #rrggbb.
func ParseColor(text string) error {
	_, err := parseColor(text)
	return err
}

func parseColor(text string) (rgb, error) {
	digits, found := strings.CutPrefix(text, "#")
	raw, err := hex.DecodeString(digits)
	if !found || err != nil || len(raw) != 3 {
		return rgb{}, fmt.Errorf("%w: %q is not a colour in the form #1a5fb4", ErrOwn, text)
	}
	return rgb{float64(raw[0]), float64(raw[1]), float64(raw[2])}, nil
}

// colorStyle returns CSS that gives the pages a colour. It is made darker on white, and lighter on black, until it can be
// read on both, so that no choice of a colour makes a page that some people cannot use.
func colorStyle(color string) (string, error) {
	if color == "" {
		return "", nil
	}
	base, err := parseColor(color)
	if err != nil {
		return "", err
	}
	light, dark := readable(base, rgb{}, lightGround()), readable(base, rgb{255, 255, 255}, darkGround())
	return fmt.Sprintf("\n:root{--accent:%s;--on-accent:#fff}@media(prefers-color-scheme:dark){:root{--accent:%s;--on-accent:#10131a}}", light, dark), nil
}

// readable moves a colour towards another one until it can be read on a ground.
func readable(color, towards, ground rgb) string {
	mixed := color
	for share := 0.0; share <= 1; share += 0.02 {
		for i := range mixed {
			mixed[i] = math.Round(color[i]*(1-share) + towards[i]*share)
		}
		if ratio(mixed, ground) >= contrast {
			break
		}
	}
	return fmt.Sprintf("#%02x%02x%02x", int(mixed[0]), int(mixed[1]), int(mixed[2]))
}

// ratio is the contrast ratio of WCAG 2.2.
func ratio(a, b rgb) float64 {
	x, y := luminance(a), luminance(b)
	return (math.Max(x, y) + 0.05) / (math.Min(x, y) + 0.05)
}

func luminance(c rgb) float64 {
	linear := func(v float64) float64 {
		if v /= 255; v > 0.04045 {
			return math.Pow((v+0.055)/1.055, 2.4)
		}
		return v / 12.92
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}
