package password

// Visit is a call that will need a hash and still asks the stores what it needs for that. Use [Hasher.Enter].
//
// Without visits, thousands of logins at once would all ask the stores first, and most of them would wait there past
// their deadline, for a hasher that has no place for them anyway.
type Visit struct {
	admission *admission
	ticket    *ticket
}

// Enter admits a call before it asks a store. No more calls are on their way at once than the hasher has slots and
// places in its queue. If there are more, one has to leave: the last of the network with the most calls, as in a full
// queue. So one network cannot keep the others out. It fails with *OverloadedError. The caller must call Leave.
func (h *Hasher) Enter(by Claim) (*Visit, error) {
	t := &ticket{by: by, work: work{units: h.params.cost()}}
	if err := h.admission.come(t); err != nil {
		return nil, err
	}
	return &Visit{h.admission, t}, nil
}

// Arrive ends the visit before the hash. It returns *OverloadedError if the call had to make room for another one: then
// it must not hash. A nil Visit has always arrived.
func (v *Visit) Arrive() error {
	if v == nil {
		return nil
	}
	return v.admission.arrive(v.ticket)
}

// Leave ends the visit if it has not ended.
func (v *Visit) Leave() {
	if v != nil {
		_ = v.admission.arrive(v.ticket) // the call has its own answer
	}
}

// come adds a caller to those that are on their way, or refuses it or another one.
func (a *admission) come(t *ticket) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.coming.add(t)
	if a.coming.size() <= a.slots+a.queue {
		return nil
	}
	crowding := a.coming.crowding(t)
	a.coming.remove(crowding)
	crowding.refused = a.turnAway(crowding, a.now())
	return t.refused
}

// arrive removes a caller from those that are on their way, and returns why it was refused.
func (a *admission) arrive(t *ticket) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.coming.remove(t)
	return t.refused
}
