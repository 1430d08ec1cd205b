package config

import (
	"strings"
	"testing"
)

// TestRedisURLSaysWhatIsWrong: the part, and nothing of the password.
func TestRedisURLSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	const secret = "geheim7"
	for text, want := range map[string]string{
		"http://:geheim7@h:6379":                        "scheme",
		"h:6379":                                        "is not a URL",
		"redis://:geheim7@h:port":                       "port that is not a number",
		"redis://:geheim7@h:70000":                      "port that is not a number from 1 to 65535",
		"redis://:geheim7@h:0":                          "port",
		"redis://:geheim7@h1:1,h2:99999,h3:3":           "port that is not a number from 1 to 65535 in address 2 of 3",
		"redis://:geheim7@h1:1,,h3:3":                   "empty address",
		"redis://:geheim7@a b:6379":                     "host with a character",
		"redis://:geheim7@[::1:6379":                    "bracket that is not closed",
		"redis://:geheim7@h:6379/main":                  "database that is not a number",
		"redis://:geheim7@h:6379/1/2":                   "database that is not a number",
		"redis://:geheim7@h:6379?db=x":                  "database that is not a number",
		"redis://:geheim7@h:6379/1?pool_sice=5":         "unknown option: number 1 of 1, where pool_size may be meant",
		"redis://:geheim7@h:6379/1?pool_size=many":      "option pool_size that is not a number",
		"redis://:geheim7@h:6379/1?read_timeout=soon":   "option read_timeout that is not a number of seconds or a duration",
		"rediss://:geheim7@h:6379/1?skip_verify=ja":     "option skip_verify that is not true or false",
		"redis://:geheim7@h1:1,h2:2?pool_sice=5":        "unknown option: number 1 of 1, where pool_size may be meant",
		"redis+sentinel://:geheim7@h:1/m?pool_sice=5":   "unknown option: number 1 of 1, where pool_size may be meant",
		"redis+sentinel://:geheim7@h:1/m/main":          "database that is not a number",
		"redis+sentinel://:geheim7@h:1":                 "names no master",
		"redis+sentinel://:geheim7@h:1,h:x/m":           "port that is not a number from 1 to 65535 in address 2 of 2",
		"unix://":                                       "is not a URL",
		"unix://?db=1":                                  "names no socket",
		"redis://:geheim7%@h:6379":                      "password with a % that begins no escape",
		"redis://geheim%zz:x@h:6379":                    "user with a % that begins no escape",
		"redis://:geheim7[@h:6379":                      "percent-encoded",
		"redis://:geheim7 x@h:6379":                     "percent-encoded",
		"redis://:geheim7#x@h:6379":                     "%23 for #",
		"redis://:geheim7/x@h:6379":                     "%2F for /",
		"redis://:geheim7?x@h:6379":                     "%3F for ?",
		"redis://:geheim7,x@h:6379":                     "%2C for ,",
		"redis://:geheim7@h1:6379,:geheim7@h2:6379":     "credentials before the first address only",
		"redis://:geheim7@h:6379\n":                     "line break",
		"redis://:geheim7@h:6379/1?geheim7x=1&pool=5":   "unknown option: number 1 of 2",
		"redis://:geheim7@h:6379/1?geheim7=%zz&x%20=12": "unknown option",
	} {
		var u RedisURL
		err := u.UnmarshalText([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
			continue
		}
		if strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"redis://:" + secret + "@h", "redis://:" + secret + "@x@h", "redis://h:6379", "redis://[::1]:6379/2", "redis://[::1]",
	} {
		var u RedisURL
		if err := u.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzRedisURLSecrets: no error has a part of the password, whatever stands where.
func FuzzRedisURLSecrets(f *testing.F) {
	f.Add("redis", "pass", "h:1", "/0?x=1")
	f.Add("redis+sentinel", "a,b?pool=1", "h:1,h:x", "/m/y?db=z")
	f.Add("unix", "a/b", "/run/x", "?pool_size=q")
	f.Add("rediss", "%zz", "[::1", "/1/2")
	f.Fuzz(func(t *testing.T, scheme, password, hosts, tail string) {
		const marker = "Zq9" // no word of ours has it
		if strings.Contains(scheme+hosts+tail, marker) {
			return
		}
		for _, secret := range []string{marker + password, password + marker} {
			var u RedisURL
			if err := u.UnmarshalText([]byte(scheme + "://u:" + secret + "@" + hosts + tail)); err != nil && strings.Contains(err.Error(), marker) {
				t.Errorf("%v", err)
			}
		}
	})
}
