package main

// mutants are the bugs, in the order of the packages that they are put into.
var mutants = []mutant{
	// raftnode: what is promised before it is on the disk
	{"answers go out before what they promise is on the disk", "raftnode/core.go",
		"		c.appending++\n		c.out.appends = append(c.out.appends, m)", "		c.appending++\n		c.respond(m)\n		m.Responses = nil\n		c.out.appends = append(c.out.appends, m)"},
	{"no tombstone: a removed member is forgotten", "raftnode/members.go",
		"		j, _ := slices.BinarySearch(m.meta.Removed, r.MemberId)\n		m.meta.Removed = slices.Insert(m.meta.Removed, j, r.MemberId)", ""},
	{"a removed member's id may be used again", "raftnode/members.go",
		"		case m.removed(r.MemberId):", "		case false:"},
	{"a name that is taken may be added", "raftnode/members.go", "		case same != nil:", "		case false && same != nil:"},
	{"the last voter may be removed", "raftnode/members.go", "m.voter(r.MemberId) && len(m.conf.Voters) == 1 {", "false {"},
	{"a refused change is made by raft all the same", "raftnode/members.go", "	if refused {\n		kind, id = raftpb.ConfChangeUpdateNode, 0\n	}", "	_ = refused"},

	{"raft hears of a membership change with the next one", "raftnode/core.go",
		"func (c *core) configure(cc *raftpb.ConfChangeV2, index uint64) *raftpb.ConfState {",
		"var late = map[*core]*raftpb.ConfChangeV2{}\n\nfunc (c *core) configure(cc *raftpb.ConfChangeV2, index uint64) *raftpb.ConfState {\n	late[c], cc = cc, late[c]\n	if cc == nil {\n		return c.storage.conf\n	}\n"},
	{"a restarted member has forgotten its vote", "raftnode/storage.go",
		"	return s.hard, s.conf, nil", "	s.hard.Vote = nil\n	return s.hard, s.conf, nil"},
	{"the members' record is written in the order of a map", "raftnode/members.go",
		"func (m *members) encode() ([]byte, error) { return proto.Marshal(m.meta) }",
		"func (m *members) encode() ([]byte, error) {\n	m.meta.Windows = nil\n	for _, w := range m.windows {\n		m.meta.Windows = append(m.meta.Windows, w)\n	}\n	return proto.Marshal(m.meta)\n}"},
	{"whoever is told that the leader is gone stands at once", "raftnode/core.go", "		PreVote:                   true,", "		PreVote:                   false,"},

	// raftnode: once, and not lost
	{"no window: a request is applied as often as it commits", "raftnode/request.go", "	if !w.insert(h.sequence) {\n		return duplicate\n	}", "	w.insert(h.sequence)"},
	{"the window forgets what lies above its low mark", "raftnode/request.go",
		"		w.Ranges = slices.Insert(w.Ranges, i, sequence, sequence)", "		_ = i"},
	{"an older incarnation's requests are applied", "raftnode/request.go", "	case h.incarnation < w.Incarnation, transport.Rivals(h.incarnation, w.Incarnation):\n		return outdated\n", "	case false && transport.Rivals(h.incarnation, w.Incarnation):\n		return outdated\n"},
	{"a new incarnation inherits the window of the old", "raftnode/request.go", "w.Incarnation, w.Low, w.Ranges = h.incarnation, h.low, nil", "w.Incarnation = h.incarnation"},
	{"nothing is carried over to a new leader", "raftnode/core.go", "		c.requeueAll()\n", "		if c.electionTicks < 0 {\n			c.requeueAll()\n		}\n"},
	{"what is lost on the way is not proposed again", "raftnode/core_propose.go", "	if c.state != raft.StateLeader && c.lead != raft.None && c.now%ticksPerHeartbeat == 0 {", "	if false {"},
	{"a caller that gives up is told that nothing went out", "raftnode/core_propose.go", "		neverSent = p.data == nil", "		neverSent = true || p.data == nil"},
	{"low is raised past what still waits", "raftnode/core_propose.go", "encodeEntry(header{id, ps.low}, p.cmd)", "encodeEntry(header{id, p.sequence}, p.cmd)"},

	// raftnode: reads
	{"a reader joins a round that is under way", "raftnode/core_read.go", "func (c *core) readIdle() bool { return c.reads.token == 0 }", "func (c *core) readIdle() bool { return true }"},
	{"each attempt at a read has the same context", "raftnode/core_read.go", "	return binary.BigEndian.AppendUint64(b, c.reads.context)", "	return b"},
	{"a read goes on before its index is applied", "raftnode/core_read.go", "c.reads.confirmed[n].index <= c.storage.applied {", "c.reads.confirmed[n].index <= c.last {"},
	{"a lone voter answers reads before it has committed", "raftnode/core_read.go", "	return err != nil || term == c.term", "	return true || err != nil || term == c.term"},

	// raftnode: log, snapshots, configurations
	{"entries are kept where they overlap", "raftnode/storage.go", "	for len(s.bytes) > kept {", "	for false && len(s.bytes) > kept {"},
	{"the log is compacted past what is applied", "raftnode/core.go", "	to := c.storage.applied - min(c.keepEntries, held)", "	to := min(c.commit, c.storage.applied+1)"},
	{"a restart takes the first snapshot's configuration", "raftnode/storage.go", "	return s.hard, s.conf, nil", "	if snap, err := s.MemoryStorage.Snapshot(); err == nil && snap.GetMetadata().GetIndex() > 0 {\n		return s.hard, snap.GetMetadata().GetConfState(), nil\n	}\n	return s.hard, s.conf, nil"},
	{"a change below a snapshot reaches raft a second time", "raftnode/core.go", "	if index <= c.restoring {", "	if false {"},
	{"an installed snapshot leaves the applied index behind", "raftnode/storage.go", "	s.conf, s.confAt, s.applied = m.GetConfState(), m.GetIndex(), m.GetIndex()", "	s.conf, s.confAt = m.GetConfState(), m.GetIndex()"},
	{"the term of what is applied is not kept", "raftnode/applier.go", "a.index, a.members.meta.Term = e.GetIndex(), e.GetTerm()", "a.index = e.GetIndex()"},
	{"the members' record is not stored with commands", "raftnode/applier.go", "	results, err := a.sm.Apply(a.index, cmds, meta)", "	if len(cmds) > 0 {\n		_, meta = a.sm.Applied()\n	}\n	results, err := a.sm.Apply(a.index, cmds, meta)"},
	{"a peer's heartbeat may name what this log does not have", "raftnode/core_receive.go", "		if m.GetCommit() > c.last && m.GetTerm() >= c.term {", "		if false {"},
	{"a peer may acknowledge what this log does not have", "raftnode/core_receive.go", "		if !m.GetReject() && m.GetIndex() > c.last && m.GetTerm() >= c.term {", "		if false {"},
	{"a peer may contradict what is committed", "raftnode/core_receive.go", "term != e.GetTerm() && m.GetTerm() >= c.term {", "term != e.GetTerm() && false {"},
	{"anybody may ask a member to stand", "raftnode/core_receive.go", "		if m.GetFrom() != c.lead || c.lead == raft.None {", "		if false && c.lead == raft.None {"},
	{"a refused vote is believed whatever the own log has", "raftnode/core_refusal.go", "err != nil || term != m.GetLogTerm() {", "err != nil && term != 0 {"},
	{"the last of two voters hears nothing from the other", "raftnode/core_refusal.go", "	c.drain()\n	if m.GetCommit()", "	c.drain()\n	if true || m.GetCommit()"},

	// wal
	{"the log is not synced", "wal/wal.go", "	begin := time.Now()\n	err := l.etcd.Save(", "	begin := time.Now()\n	l.etcd.SetUnsafeNoFsync()\n	err := l.etcd.Save("},
	{"a snapshot is not synced", "wal/snapshot.go", "	if err == nil {\n		err = f.Sync()\n	}\n", ""},
	{"a snapshot counts before its file is whole", "wal/snapshot.go",
		"	f, err := os.CreateTemp(", "	if err := os.WriteFile(id.path(l.dir), nil, 0o600); err != nil {\n		return 0, err\n	}\n	if err := l.MarkSnapshot(meta); err != nil {\n		return 0, err\n	}\n	f, err := os.CreateTemp("},
	{"a failed write does not end the log", "wal/wal.go", "	defer l.mu.Unlock()\n	return l.dead\n", "	defer l.mu.Unlock()\n	return nil\n"},
	{"an overwritten entry leaves what follows it", "wal/records.go", "		r.entries = r.entries[:keep]\n", "		if keep == 0 {\n			r.entries = r.entries[:keep]\n		}\n"},
	{"a torn tail is taken for damage", "wal/tail.go", "		if recordEnd <= space && !missesSector(rest, offset, recordEnd) {", "		if recordEnd <= space {"},
	{"a snapshot record drops what follows on it", "wal/records.go", "	if has, known := r.has(id); id.index > last || known && !has {", "	if has, known := r.has(id); true || known && !has {"},
	{"the hard state is not written with entries", "wal/wal.go", "	err := l.etcd.Save(state.numbered(l.unit+1), entries)", "	if len(entries) > 0 {\n		state = l.durable\n	}\n	err := l.etcd.Save(state.numbered(l.unit+1), entries)"},
	{"a vote is kept in memory", "wal/wal.go", "	if len(entries) == 0 && state.sameVote(l.durable) {", "	if len(entries) == 0 {"},

	// kvstore
	{"a key is forgotten at once", "kvstore/keys.go", "	b.keys[s.Key] = sequence\n", ""},
	{"an event tells of the object as it is now", "kvstore/history.go", "		b.old = append(b.old, version{revisionOf(s.object), before})", "		_ = before"},
	{"an event tells of the object as its batch left it", "kvstore/history.go", "		b.events[s.event-1].object = before", "		_ = before"},
	{"keys are dropped while they are few", "kvstore/keys.go", "h.KeysStored <= b.limits.keys && !expired(oldest, now)", "h.KeysStored <= 2 && !expired(oldest, now)"},
	{"the applied index is not stored with what was applied", "kvstore/batch.go", "	if err := bucket.Put(headKey, b.head.encode()); err != nil {", "	if len(b.touched) > 0 {\n		return nil\n	}\n	if err := bucket.Put(headKey, b.head.encode()); err != nil {"},
	{"what is pending is lost when somebody reads", "kvstore/apply.go", "	err := b.commit(s.current.db)\n", "	err := b.tx.Rollback()\n"},
	{"a snapshot leaves out what is pending", "kvstore/kvstore.go", "	if err := s.catchUp(); err != nil {\n		return err\n	}\n	f, _, err := s.hold()", "	f, _, err := s.hold()"},
	{"the hash depends on how batches are cut", "kvstore/batch.go", "	data = binary.BigEndian.AppendUint64(data, b.head.Revision)\n	data = appendSized(data, string(c.Kind))", "	data = binary.BigEndian.AppendUint64(data, uint64(b.commands))\n	data = appendSized(data, string(c.Kind))"},
	{"time is that of the node, not that of the log", "kvstore/batch.go", "	stamp.At = max(stamp.At, b.head.Time)\n", "	stamp.At = max(stamp.At, b.head.Time) + farm.Time(len(b.touched))\n"},

	// farm
	{"a cancelled job keeps its grams", "farm/decide_job.go", "	d.settle(spool, -spent, -before.Weight)", "	d.settle(spool, -spent, 0)"},
	{"a spool may be promised twice", "farm/decide_job.go", "	if c.Weight > spool.Available {", "	if c.Weight > spool.Total {"},
	{"a printer may run two jobs", "farm/decide_job.go", "d.RunningJob(before.PrinterID); busy {", "d.RunningJob(before.PrinterID); busy && false {"},
}
