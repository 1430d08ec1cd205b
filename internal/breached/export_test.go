package breached

// ParseLine is parseLine for a line of the file.
func ParseLine(line []byte) (digits []byte, positive bool, err error) {
	return parseLine(line, hexDigits)
}
