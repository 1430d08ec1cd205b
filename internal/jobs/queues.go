package jobs

import (
	"time"

	"github.com/riverqueue/river"
)

// The queues. A queue keeps its jobs from being held up by those of the others. The names are in rows that outlive a
// deployment: add, never change.
const (
	// MailLinks carries links that anybody can ask many of, MailNotices the warnings that must not wait for them.
	MailLinks   = "mail_links"
	MailNotices = "mail_notices"
	// MailFormer is where former versions put both.
	MailFormer = "mail"
	// UpkeepQueue keeps a long sweep from holding up other jobs.
	UpkeepQueue = "upkeep"
)

const (
	// mailWorkers is how many mails of a queue one replica sends at a time.
	mailWorkers = 4
	// mailPause is how soon a queue of mails is asked again while there is more to do: the default of 100 ms would
	// bound it to 40 mails a second.
	mailPause = 20 * time.Millisecond
)

// queues says how many jobs of each queue one replica works at a time, and how often it asks.
func queues() map[string]river.QueueConfig {
	mails := river.QueueConfig{MaxWorkers: mailWorkers, FetchCooldown: mailPause}
	return map[string]river.QueueConfig{
		MailLinks:   mails,
		MailNotices: mails,
		MailFormer:  mails,
		// Nobody waits for a sweep: ask rarely.
		UpkeepQueue: {MaxWorkers: 1, FetchPollInterval: 30 * time.Second},
	}
}
