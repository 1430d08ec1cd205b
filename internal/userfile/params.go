package userfile

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// params are the parameters of a password hash, such as "digest=sha256,iterations=25000"; in JSON they may be an object
// of texts and numbers.
type params string

// UnmarshalJSON implements json.Unmarshaler.
func (p *params) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, (*string)(p)) == nil {
		return nil
	}
	var values map[string]json.RawMessage
	if json.Unmarshal(text, &values) != nil {
		return &valueError{"password_params is neither an object nor a text such as iterations=25000,digest=sha256"}
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		var plain string
		if json.Unmarshal(values[name], &plain) != nil {
			plain = string(values[name])
		}
		if strings.ContainsAny(name+plain, "{[,=") {
			return &valueError{"password_params has a value that is neither a number nor a simple text"}
		}
		parts = append(parts, name+"="+plain)
	}
	*p = params(strings.Join(parts, ","))
	return nil
}
