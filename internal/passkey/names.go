package passkey

import "github.com/google/uuid"

// ModelName returns the name of the program or device that made a passkey, or "". It is a proposal for what the owner
// calls the passkey: AAGUIDs are not proved. The names are those of the list of the community
// (github.com/passkeydeveloper/passkey-authenticator-aaguids).
func ModelName(aaguid uuid.UUID) string {
	switch aaguid.String() {
	case "08987058-cadc-4b81-b6e1-30de50dcbe96":
		return "Windows Hello"
	case "50726f74-6f6e-5061-7373-50726f746f6e":
		return "Proton Pass"
	case "531126d6-e717-415c-9320-3d9aa6981239":
		return "Dashlane"
	case "53414d53-554e-4700-0000-000000000000":
		return "Samsung Pass"
	case "adce0002-35bc-c60a-648b-0b25f1f05503":
		return "Chrome on Mac"
	case "bada5566-a7aa-401f-bd96-45619a55120d":
		return "1Password"
	case "d548826e-79b4-db40-a3d8-11116f7e8349":
		return "Bitwarden"
	case "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4":
		return "Google Password Manager"
	case "fbfc3007-154e-4ecc-8c0b-6e020557d7bd":
		return "Apple Passwords"
	case "fdb141b2-5d84-443e-8a35-4698c205a502":
		return "KeePassXC"
	}
	return ""
}
