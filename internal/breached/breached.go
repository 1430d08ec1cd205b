// Package breached looks passwords up in a copy of Have I Been Pwned's Pwned Passwords that the operator has downloaded.
// Nothing leaves the machine.
//
// Open takes what the official downloader writes for SHA-1: one file with a line "HASH:COUNT" for each password, ordered
// by hash, or a folder with a file XXXXX.txt for each beginning of five digits, whose lines have the other 35. Lines end
// with CRLF or LF.
//
// The file is read with ReadAt, not mapped into memory: if a mapped file is cut off, the next access kills the process
// with SIGBUS, but a read returns an error. The kernel caches the pages of the file in both cases.
package breached

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // G505: the file has SHA-1; it is no protection here
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	// hexDigits is how many digits a SHA-1 has, and prefixDigits how many of them are in the name of a file of a range.
	hexDigits    = 2 * sha1.Size
	prefixDigits = 5
	ntlmDigits   = 32
	// maxLine is the most bytes of a line: digits, a colon, a count of up to 19 digits, CRLF.
	maxLine = hexDigits + 1 + 19 + 2
	// window is the size at which a search stops to halve and reads every line.
	window = 4096
	// maxRange bounds the file of a range, which has some 40 KB.
	maxRange = 4 << 20
	// samples is how many lines Open compares.
	samples = 1024
)

var (
	// ErrForm is returned for a file that is not what the downloader writes, is not ordered or is cut off.
	ErrForm = errors.New("is not Have I Been Pwned's list of SHA-1 hashes, ordered by hash")
	// ErrChanged is returned if the file has another size than at Open: it was changed in place. A file that replaces it does no harm.
	ErrChanged = errors.New("the file of breached passwords was changed in place: start the service again")
)

// Set is a downloaded list. It is safe for concurrent use. Use Open.
type Set struct {
	file   *os.File // nil if the list is a folder
	size   int64
	folder string
}

// Open opens a list and checks its form on samples: its ends, and 1,024 lines in between. The Set keeps the file open,
// so that a file which takes its name later does not matter. Errors say what is wrong, without the path.
func Open(path string) (*Set, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if info.IsDir() {
		s := &Set{folder: path}
		return s, s.checkFolder()
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is neither a file nor a folder", ErrForm)
	}
	file, err := os.Open(path) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, withoutPath(err)
	}
	s := &Set{file: file, size: info.Size()}
	if err := s.checkFile(); err != nil {
		_ = s.Close() // only read
		return nil, err
	}
	return s, nil
}

// Close closes the file. No other method may run.
func (s *Set) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// Contains returns whether the password is in the list. It does the same work whether it is or not. An error means that
// nobody knows: it is ErrChanged, ErrForm or one of the file system, and shows nothing of the password.
func (s *Set) Contains(password string) (bool, error) {
	sum := sha1.Sum([]byte(password)) //nolint:gosec // G401: as the file has it
	want := bytes.ToUpper(hex.AppendEncode(nil, sum[:]))
	if s.file == nil {
		return s.inFolder(want)
	}
	info, err := s.file.Stat()
	if err != nil {
		return false, withoutPath(err)
	}
	if info.Size() != s.size {
		return false, ErrChanged
	}
	return s.inFile(want)
}

// inFile halves the file until a window is left. It never stops early, so the work depends on the file alone.
func (s *Set) inFile(want []byte) (bool, error) {
	low, high := int64(0), s.size // a line of want begins in [low, high)
	var below, above []byte       // hashes of lines that were read before and after it
	for high-low > window {
		middle := low + (high-low)/2
		start, digits, err := s.lineAfter(middle)
		if err != nil {
			return false, err
		}
		if below != nil && bytes.Compare(digits, below) <= 0 || above != nil && bytes.Compare(digits, above) >= 0 {
			return false, fmt.Errorf("%w: it is not ordered", ErrForm)
		}
		if bytes.Compare(want, digits) < 0 {
			high, above = middle+1, digits // its line begins before that one, which is the first after middle
		} else {
			low, below = start, digits
		}
	}
	lines := make([]byte, min(high+maxLine, s.size)-low)
	if err := s.read(lines, low); err != nil {
		return false, err
	}
	return scan(lines, want, below)
}

// lineAfter returns the start and the digits of the first line that begins after the offset.
func (s *Set) lineAfter(offset int64) (start int64, digits []byte, err error) {
	text := make([]byte, min(2*maxLine, s.size-offset))
	if err := s.read(text, offset); err != nil {
		return 0, nil, err
	}
	end := bytes.IndexByte(text, '\n')
	if end < 0 {
		return 0, nil, fmt.Errorf("%w: a line is too long", ErrForm)
	}
	line, _, ok := bytes.Cut(text[end+1:], []byte{'\n'})
	if !ok {
		return 0, nil, fmt.Errorf("%w: a line is too long, or cut off", ErrForm)
	}
	digits, _, err = parseLine(line, hexDigits)
	return offset + int64(end) + 1, digits, err
}

// read fills the buffer. A file that has become shorter is ErrChanged.
func (s *Set) read(buffer []byte, offset int64) error {
	_, err := s.file.ReadAt(buffer, offset)
	switch {
	case errors.Is(err, io.EOF):
		return ErrChanged
	case err != nil:
		return withoutPath(err)
	}
	return nil
}

// scan reads whole lines up to the last line break, and returns whether one has the digits and a count over 0: the
// service pads answers with counts of 0.
func scan(lines, want, below []byte) (found bool, err error) {
	for {
		line, rest, ok := bytes.Cut(lines, []byte{'\n'})
		if !ok {
			return found, nil
		}
		digits, count, err := parseLine(line, len(want))
		if err != nil {
			return false, err
		}
		if below != nil && bytes.Compare(digits, below) < 0 {
			return false, fmt.Errorf("%w: it is not ordered", ErrForm)
		}
		if bytes.Equal(digits, want) && count {
			found = true
		}
		lines, below = rest, digits
	}
}

// parseLine reads DIGITS:COUNT, perhaps with a CR after it. digits are upper-case hexadecimal. positive is true if the
// count is not 0.
func parseLine(line []byte, length int) (digits []byte, positive bool, err error) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) < length+2 || len(line) > length+20 || line[length] != ':' {
		return nil, false, notALine(line, length)
	}
	digits = line[:length]
	for _, c := range digits {
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return nil, false, notALine(line, length)
		}
	}
	for _, c := range line[length+1:] {
		if c < '0' || c > '9' {
			return nil, false, notALine(line, length)
		}
		positive = positive || c != '0'
	}
	return digits, positive, nil
}

// notALine says why, without the line.
func notALine(line []byte, length int) error {
	if bytes.IndexByte(line, ':') == length-hexDigits+ntlmDigits {
		return fmt.Errorf("%w: it has NTLM hashes: download it again without -n", ErrForm)
	}
	return fmt.Errorf("%w: a line is not HASH:COUNT with %d upper-case digits", ErrForm, length)
}

// checkFile checks the ends of the file, and that samples of it are ordered.
func (s *Set) checkFile() error {
	if s.size == 0 {
		return fmt.Errorf("%w: it is empty", ErrForm)
	}
	text := make([]byte, min(maxLine, s.size))
	if err := s.read(text, 0); err != nil {
		return err
	}
	line, _, ok := bytes.Cut(text, []byte{'\n'})
	below, _, err := parseLine(line, hexDigits)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: it does not end with a line break: it is cut off", ErrForm)
	}
	first := below
	if below, err = s.checkSamples(below, int64(len(line))); err != nil {
		return err
	}
	return s.checkEnds(first, below)
}

// checkSamples returns the digits of the last line.
func (s *Set) checkSamples(below []byte, first int64) ([]byte, error) {
	last := make([]byte, min(2*maxLine, s.size))
	if err := s.read(last, s.size-int64(len(last))); err != nil {
		return nil, err
	}
	if last[len(last)-1] != '\n' {
		return nil, fmt.Errorf("%w: it does not end with a line break: it is cut off", ErrForm)
	}
	ends := bytes.LastIndexByte(last[:len(last)-1], '\n') + 1
	end := s.size - int64(len(last)) + int64(ends) // where the last line begins
	if end <= first {
		return below, nil // a single line
	}
	at := int64(0)
	for i := int64(1); i < samples; i++ {
		offset := s.size / samples * i
		if offset < at || offset >= end {
			continue
		}
		start, digits, err := s.lineAfter(offset)
		if err != nil {
			return nil, err
		}
		if bytes.Compare(digits, below) <= 0 {
			return nil, fmt.Errorf("%w: it is not ordered by hash", ErrForm)
		}
		at, below = start, digits
	}
	digits, _, err := parseLine(last[ends:len(last)-1], hexDigits)
	if err != nil {
		return nil, err
	}
	if at < end && bytes.Compare(digits, below) <= 0 {
		return nil, fmt.Errorf("%w: it is not ordered by hash", ErrForm)
	}
	return digits, nil
}

// checkEnds refuses a download that was not finished. Hashes are spread evenly: where n of them leave more than 40 times
// the mean distance free at an end, some are missing.
func (s *Set) checkEnds(first, last []byte) error {
	n := float64(s.size) / maxLine // at least so many lines
	if fraction(first)*n > 40 || (1-fraction(last))*n > 40 {
		return fmt.Errorf("%w: it is cut off: its hashes go from %s… to %s…", ErrForm, first[:prefixDigits], last[:prefixDigits])
	}
	return nil
}

// fraction returns where the hash lies between 0 and 1.
func fraction(digits []byte) (f float64) {
	for i := 11; i >= 0; i-- {
		f = (f + float64(bytes.IndexByte([]byte("0123456789ABCDEF"), digits[i]))) / 16
	}
	return f
}

// checkFolder checks the files of 16 ranges. There are 1,048,576; a missing one is found when it is needed.
func (s *Set) checkFolder() error {
	for i := range 16 {
		prefix := strings.Repeat(fmt.Sprintf("%X", i), prefixDigits)
		lines, err := s.rangeFile(prefix)
		if err != nil {
			return fmt.Errorf("%s.txt: %w", prefix, err)
		}
		if _, err := scan(lines, make([]byte, hexDigits-prefixDigits), nil); err != nil {
			return fmt.Errorf("%s.txt: %w", prefix, err)
		}
	}
	return nil
}

func (s *Set) inFolder(want []byte) (bool, error) {
	lines, err := s.rangeFile(string(want[:prefixDigits]))
	if err != nil {
		return false, err
	}
	return scan(lines, want[prefixDigits:], nil)
}

// rangeFile returns the lines of a range, each with a line break.
func (s *Set) rangeFile(prefix string) ([]byte, error) {
	file, err := os.Open(filepath.Join(s.folder, prefix+".txt")) //nolint:gosec // G304: digits in the operator's folder
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close() //nolint:errcheck // only read
	lines, err := io.ReadAll(io.LimitReader(file, maxRange))
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case len(lines) == 0 || len(lines) == maxRange:
		return nil, fmt.Errorf("%w: the file of a range is empty or too long", ErrForm)
	}
	if lines[len(lines)-1] != '\n' { // the service ends an answer without one
		lines = append(lines, '\n')
	}
	return lines, nil
}

// withoutPath keeps the error of the operating system, and drops the path, which names a file of a range.
func withoutPath(err error) error {
	if pathError, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("read breached passwords: %w", pathError.Err)
	}
	return err
}
