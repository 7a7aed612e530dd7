package raftnode

import (
	"fmt"
	"log/slog"
)

// raftLog lets raft write to slog. raft tells of every vote at its Info level; that is Debug to an operator, who
// hears of elections from the node. Panic and Fatal must not return: raft has found an invariant broken.
type raftLog struct{ log *slog.Logger }

func (l raftLog) Debug(v ...any)                 {}
func (l raftLog) Debugf(format string, v ...any) {}
func (l raftLog) Info(v ...any)                  { l.log.Debug("raft", "event", fmt.Sprint(v...)) }
func (l raftLog) Infof(format string, v ...any) {
	l.log.Debug("raft", "event", fmt.Sprintf(format, v...))
}
func (l raftLog) Warning(v ...any) { l.log.Warn("raft", "event", fmt.Sprint(v...)) }
func (l raftLog) Warningf(format string, v ...any) {
	l.log.Warn("raft", "event", fmt.Sprintf(format, v...))
}
func (l raftLog) Error(v ...any) { l.log.Error("raft", "event", fmt.Sprint(v...)) }
func (l raftLog) Errorf(format string, v ...any) {
	l.log.Error("raft", "event", fmt.Sprintf(format, v...))
}
func (l raftLog) Fatal(v ...any)                 { panic("raft: " + fmt.Sprint(v...)) }
func (l raftLog) Fatalf(format string, v ...any) { panic("raft: " + fmt.Sprintf(format, v...)) }
func (l raftLog) Panic(v ...any)                 { panic("raft: " + fmt.Sprint(v...)) }
func (l raftLog) Panicf(format string, v ...any) { panic("raft: " + fmt.Sprintf(format, v...)) }
