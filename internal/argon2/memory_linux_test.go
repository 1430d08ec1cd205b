package argon2

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// TestMemory: the kernel leaves the memory of a hash out of core dumps and may give it huge pages. The blocks begin at
// one, so that it can.
func TestMemory(t *testing.T) {
	t.Parallel()
	blocks, mapped := mapBlocks(19456)
	defer unmap(mapped)
	if len(blocks) != 19456 || mapped == nil {
		t.Fatalf("%d blocks, mapped: %v", len(blocks), mapped != nil)
	}
	if at := uintptr(unsafe.Pointer(&blocks[0])); at%hugePage != 0 {
		t.Errorf("the blocks begin at %#x", at)
	}
	blocks[0][0], blocks[len(blocks)-1][127] = 1, 1 // within the mapping

	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = smaps.Close() }()
	at := uintptr(unsafe.Pointer(&mapped[0]))
	lines, found := bufio.NewScanner(smaps), false
	for lines.Scan() {
		line := lines.Text()
		// The kernel joins mappings of the same kind that lie side by side.
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			found = from <= at && at < to
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); found && ok {
			if !strings.Contains(flags, " dd ") {
				t.Errorf("the memory is part of core dumps: %s", flags)
			}
			if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err == nil && !strings.Contains(flags, " hg ") {
				t.Errorf("the memory has no huge pages: %s", flags)
			}
			return
		}
	}
	t.Errorf("no mapping has the memory (%v)", lines.Err())
}
