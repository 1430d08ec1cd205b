package jobs

import (
	"time"

	"github.com/riverqueue/river"
)

// The queues. Jobs of one queue do not hold up those of another. The names are in rows that are older than this
// version: add names, but never change one.
const (
	// MailLinks has mails with links, of which anybody can ask for many. MailNotices has warnings, which must not wait
	// for them.
	MailLinks   = "mail_links"
	MailNotices = "mail_notices"
	// MailFormer is the queue of earlier versions for both.
	MailFormer = "mail"
	// UpkeepQueue keeps a long sweep from holding up other jobs.
	UpkeepQueue = "upkeep"
)

const (
	// mailWorkers is how many mails of a queue one replica sends at a time.
	mailWorkers = 4
	// mailPause is how soon a queue of mails is read again while there are more jobs. With the default of 100 ms it
	// would send at most 40 mails a second.
	mailPause = 20 * time.Millisecond
)

// queues returns how many jobs of each queue one replica works at a time, and how often it looks for new ones.
func queues() map[string]river.QueueConfig {
	mails := river.QueueConfig{MaxWorkers: mailWorkers, FetchCooldown: mailPause}
	return map[string]river.QueueConfig{
		MailLinks:   mails,
		MailNotices: mails,
		MailFormer:  mails,
		// Nobody waits for a sweep, so look rarely.
		UpkeepQueue: {MaxWorkers: 1, FetchPollInterval: 30 * time.Second},
	}
}
