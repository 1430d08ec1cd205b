package totp

import (
	"bytes"
	"fmt"

	qr "github.com/piglig/go-qr"
)

// quietZone is how many modules of white are around the code: the standard (ISO/IEC 18004) asks for four.
const quietZone = 4

// QR returns an SVG image of a QR code that holds the URI. The image has no size of its own: the page gives it one. It
// fails if the URI is longer than a QR code can be, about 2,300 characters.
func QR(uri string) (string, error) {
	code, err := qr.EncodeText(uri, qr.Medium)
	if err != nil {
		return "", fmt.Errorf("totp: QR code: %w", err)
	}
	image, err := code.ToSVGBytes(qr.NewQrCodeImgConfig(1, quietZone, qr.WithOptimalSVG()))
	if err != nil {
		return "", fmt.Errorf("totp: QR code: %w", err)
	}
	return string(bytes.TrimSpace(image)), nil
}
