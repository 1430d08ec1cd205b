//go:build gc && !purego

package argon2

import "golang.org/x/sys/cpu"

// kernels returns the kernels that this processor can run, the fastest first. GODEBUG=cpu.avx512f=off and cpu.avx2=off,
// read at start, leave out the first and both.
func kernels() []kernel {
	var all []kernel
	if x := &cpu.X86; x.HasAVX2 {
		if x.HasAVX512F {
			all = append(all, kernel{"avx512", mixAVX512, mixAgainAVX512, 1024})
		}
		all = append(all, kernel{"avx2", mixAVX2, mixAgainAVX2, 1024})
	}
	return all
}
