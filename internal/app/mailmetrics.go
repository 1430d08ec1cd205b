package app

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-auth/latchkey/internal/mail"
)

// registerOutbox adds metrics of the mails that wait. They cost one cheap query for each scrape.
func (a *App) registerOutbox(outbox *mail.Outbox) error {
	err := a.Metrics.Register(&outboxCollector{
		outbox:  outbox,
		pending: prometheus.NewDesc("latchkey_mail_pending", "Mails that wait to be sent.", nil, nil),
		failing: prometheus.NewDesc("latchkey_mail_failing", "Mails among them whose sending failed before.", nil, nil),
		oldest:  prometheus.NewDesc("latchkey_mail_oldest_seconds", "How long the oldest of them has waited.", nil, nil),
	})
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

type outboxCollector struct {
	outbox                   *mail.Outbox
	pending, failing, oldest *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *outboxCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.pending
	descs <- c.failing
	descs <- c.oldest
}

// Collect implements prometheus.Collector.
func (c *outboxCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	stats, err := c.outbox.Stats(ctx)
	if err != nil {
		metrics <- prometheus.NewInvalidMetric(c.pending, err)
		return
	}
	metrics <- prometheus.MustNewConstMetric(c.pending, prometheus.GaugeValue, float64(stats.Pending))
	metrics <- prometheus.MustNewConstMetric(c.failing, prometheus.GaugeValue, float64(stats.Failing))
	metrics <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, stats.Oldest.Seconds())
}
