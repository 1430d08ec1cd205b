package factors

import "github.com/google/uuid"

// SeedPlace calls seedPlace.
func SeedPlace(factorID uuid.UUID) string { return seedPlace(factorID) }

// CodesPlace calls codesPlace.
func CodesPlace(setID uuid.UUID) string { return codesPlace(setID) }
