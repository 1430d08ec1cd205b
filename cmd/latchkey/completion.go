package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// completeName is the command that the completion scripts call. It reads no settings.
const completeName = "__complete"

// The scripts ask the program itself which words can follow, so that they stay right after an update. If
// there is none, the shell completes file names.
const bashScript = `_latchkey() {
	local line
	COMPREPLY=()
	while IFS= read -r line; do
		COMPREPLY+=("${line%%$'\t'*}")
	done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _latchkey latchkey
`

const zshScript = `#compdef latchkey
_latchkey() {
	local line
	local -a found
	while IFS= read -r line; do
		found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
	if (( $#found )); then
		_describe latchkey found
	else
		_files
	fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
	_latchkey "$@"
else
	compdef _latchkey latchkey
fi
`

const fishScript = `function __latchkey_complete
	set -l words (commandline -opc) (commandline -ct)
	set -l found ($words[1] __complete $words[2..-1] 2>/dev/null)
	if test (count $found) -gt 0
		printf '%s\n' $found
	else
		__fish_complete_path (commandline -ct)
	end
end
complete -c latchkey -f -a '(__latchkey_complete)'
`

func completionGroup() command {
	script := func(text string) runner {
		return func(_ context.Context, words, _ []string, stdout io.Writer) error {
			if len(words) > 0 {
				return completionGroup().wrongUsage(fmt.Sprintf("unknown argument %q", words[0]))
			}
			_, err := io.WriteString(stdout, text)
			return err
		}
	}
	return command{
		name: "completion", noun: "command ", about: "bash, zsh or fish: print a script that completes the words of latchkey in this shell",
		more: `Each prints a script, to be read when the shell starts, or to be kept where the shell looks for completions:
  bash   source <(latchkey completion bash)                  in ~/.bashrc
  zsh    source <(latchkey completion zsh)                   in ~/.zshrc, after compinit
  fish   latchkey completion fish | source                   in ~/.config/fish/config.fish
Exit codes: 0 done, 1 failed, 2 usage.`,
		group: []command{
			{name: "bash", about: "print the script for bash", run: script(bashScript)},
			{name: "zsh", about: "print the script for zsh", run: script(zshScript)},
			{name: "fish", about: "print the script for fish", run: script(fishScript)},
		},
	}
}

// candidate is a word that can come next on a command line.
type candidate struct{ word, about string }

// printCandidates writes the candidates for the last word, one in a line, with a tab before its description.
func printCandidates(stdout io.Writer, words []string) error {
	for _, c := range candidates(words) {
		if _, err := fmt.Fprintf(stdout, "%s\t%s\n", c.word, c.about); err != nil {
			return err
		}
	}
	return nil
}

// candidates returns the words that can be in the place of the last word. There is none if that place is for
// a file, an identifier or the value of a flag.
func candidates(words []string) []candidate {
	if len(words) == 0 {
		return nil
	}
	before, typed := words[:len(words)-1], words[len(words)-1]
	if len(before) > 0 && before[0] == "help" {
		before = before[1:]
	}
	var found []candidate
	if len(before) == 0 {
		for _, c := range commands() {
			found = append(found, candidate{c.name, c.about})
		}
		if len(words) == 1 {
			found = append(found, candidate{"help", "say what a command does"}, candidate{"--help", "list the commands"}, candidate{"--version", "print the version"})
		}
	} else if c, err := findCommand(before[0]); err == nil {
		found = c.candidates(before[1:])
	}
	var fit []candidate
	for _, c := range found {
		if strings.HasPrefix(c.word, typed) && (typed != "" || !strings.HasPrefix(c.word, "-")) {
			fit = append(fit, c)
		}
	}
	return fit
}

// candidates returns the words and flags that can follow the words before.
func (c command) candidates(before []string) []candidate {
	words, _, err := c.split(before)
	if err != nil { // a flag is unknown, or the place is for its value
		return nil
	}
	list := []candidate{{"--help", "say what the command does"}}
	if sub, _, found := c.find(words); found {
		set, _ := sub.flagSet()
		set.VisitAll(func(f *flag.Flag) {
			_, text := flag.UnquoteUsage(f)
			first, _, _ := strings.Cut(text, "\n")
			list = append(list, candidate{"--" + f.Name, first})
		})
		return list
	}
	for _, sub := range c.group {
		name := strings.Fields(sub.name)
		if len(words) >= len(name) || strings.Join(words, " ") != strings.Join(name[:len(words)], " ") {
			continue
		}
		next := candidate{name[len(words)], sub.about}
		if len(name) > len(words)+1 {
			next.about = "commands on one account, or a list"
		}
		if !slices.ContainsFunc(list, func(c candidate) bool { return c.word == next.word }) {
			list = append(list, next)
		}
	}
	return list
}
