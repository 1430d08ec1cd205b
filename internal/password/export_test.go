package password

import "cmp"

// Vectors returns the hashes of other programs that the tests know, as those programs wrote them, each with the text
// that is stored for it.
func Vectors() [][2]string {
	var all [][2]string
	for _, v := range foreignVectors() {
		all = append(all, [2]string{v.encoded, cmp.Or(v.stored, v.encoded)})
	}
	return all
}

// Setting returns the text of a stored hash up to its salt.
func Setting(stored string) (string, error) {
	d, err := readStored(stored)
	if err != nil {
		return "", err
	}
	return d.setting(), nil
}
