package mail

import "time"

// SetWaits sets the waits between the attempts of a reset mail; there is one more attempt than there are waits.
func (c *Config) SetWaits(waits ...time.Duration) { c.waits = waits }
