package mail

import "time"

// SetWaits sets the waits between the attempts at a reset mail. There is one attempt more than there are waits.
func (c *Config) SetWaits(waits ...time.Duration) { c.waits = waits }
