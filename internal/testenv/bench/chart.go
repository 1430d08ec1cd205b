package main

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// The sizes of the chart in pixels.
const (
	chartWidth  = 760
	barLeft     = 300
	barMost     = 340 // the longest bar of each group
	barHeight   = 18
	rowHeight   = 26
	groupHeight = 40
)

// bars are figures that are drawn to one scale.
type bars struct {
	title  string
	unit   string
	format string
	rows   []bar
}

// bar is one of them. Ours has the colour of Latchkey.
type bar struct {
	name  string
	value float64
	ours  bool
}

// chartGroups chooses what the chart shows. What was not measured is left out.
func (r *report) chartGroups() []bars {
	var groups []bars
	if ours := find(r.ValidateToken, measured); ours != nil {
		groups = append(groups, bars{"Tokens checked in a second", "", "%.0f", []bar{
			{"an echo that checks nothing", r.ValidateToken[0].Median.PerSecond, false},
			{"ValidateToken", ours.Median.PerSecond, true},
		}})
	}
	if ours, others := find(r.Login, measured), find(r.Login, othersName); ours != nil && others != nil {
		groups = append(groups, bars{"Processor time of a password hash (Argon2id, 19 MiB)", " ms", "%.1f", []bar{
			{"golang.org/x/crypto", others.Median.CPUMicros / 1000, false},
			{"Latchkey's hash", r.Login[0].Median.CPUMicros / 1000, true},
			{"a whole Login", ours.Median.CPUMicros / 1000, true},
		}})
	}
	for _, v := range r.Overload {
		if v.Name == measured {
			groups = append(groups, bars{fmt.Sprintf("%d logins at once, each with a deadline of %s", v.Logins, crowdDeadline), "", "%.0f", []bar{
				{"logged in at the first call", float64(v.OK), true},
				{"told when to come again, then logged in", float64(v.OKLater), true},
				{"told so each time", float64(v.Overloaded - v.OKLater), true},
				{"ended by their deadline", float64(v.Late), true},
			}})
		}
	}
	if r.Revocations != nil {
		groups = append(groups, bars{"A Logout, final on every replica", " ms", "%.2f", []bar{
			{"half of the calls", r.Revocations.Logout.P50, true}, {"99 of 100 calls", r.Revocations.Logout.P99, true},
		}})
	}
	return groups
}

// chart draws the figures as an SVG that follows the reader's light or dark colours.
func (r *report) chart() []byte {
	var out strings.Builder
	groups, height := r.chartGroups(), 34
	for _, g := range groups {
		height += groupHeight + rowHeight*len(g.rows)
	}
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="system-ui, sans-serif" font-size="14">
<title>Latchkey measured</title>
<style>text { fill: #1f2328 } .quiet { fill: #656d76 } .theirs { fill: #b1bac4 } .ours { fill: #1a7f5a }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .quiet { fill: #8d96a0 } .theirs { fill: #484f58 } .ours { fill: #3fb68b } }</style>
`, chartWidth, height, chartWidth, height)
	y := 0
	for _, g := range groups {
		y = g.draw(&out, y)
	}
	fmt.Fprintf(&out, `<text class="quiet" x="0" y="%d" font-size="12">%s %s, %d processors, load average %.1f before; medians of %d rounds of %s</text>`+"\n</svg>\n",
		y+24, escaped(r.Go), escaped(r.Platform), r.Processors, r.LoadBefore, r.options.rounds, r.options.window)
	return []byte(out.String())
}

// draw adds the group below y and returns where it ends.
func (g bars) draw(out *strings.Builder, y int) int {
	most := 0.0
	for _, b := range g.rows {
		most = max(most, b.value)
	}
	fmt.Fprintf(out, `<text x="0" y="%d" font-weight="600">%s</text>`+"\n", y+24, escaped(g.title))
	y += groupHeight - 6
	for _, b := range g.rows {
		class, width := "theirs", 1.0
		if b.ours {
			class = "ours"
		}
		if most > 0 {
			width = max(1, barMost*b.value/most)
		}
		fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/><text x="%.1f" y="%d">%s%s</text>`+"\n",
			barLeft-10, y+14, escaped(b.name), class, barLeft, y, width, barHeight, barLeft+width+8, y+14, fmt.Sprintf(g.format, b.value), escaped(g.unit))
		y += rowHeight
	}
	return y + 6
}

func escaped(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) // a Builder returns no error
	return out.String()
}
