package wal

import (
	"encoding/json"
	"fmt"
)

// formatVersion is the version of everything in the directory: records, snapshot files, incarnation. A member refuses
// a directory of a newer one.
const formatVersion = 1

// Identity is who a member is, for ever. It is the metadata record that begins each segment of the log.
type Identity struct {
	ClusterID uint64 `json:"cluster_id"`
	MemberID  uint64 `json:"member_id"`
	Name      string `json:"name"`
	Founder   bool   `json:"founder"` // this directory founded its cluster
}

type identityRecord struct {
	Format int `json:"format"`
	Identity
}

func (id Identity) encode() ([]byte, error) {
	if id.ClusterID == 0 || id.MemberID == 0 {
		return nil, fmt.Errorf("cluster id %x and member id %x must not be zero", id.ClusterID, id.MemberID)
	}
	return json.Marshal(identityRecord{formatVersion, id})
}

func decodeIdentity(b []byte) (Identity, error) {
	var r identityRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return Identity{}, fmt.Errorf("metadata record: %w", err)
	}
	if r.Format != formatVersion {
		return Identity{}, fmt.Errorf("metadata record: written in format %d: %w", r.Format, errFormat)
	}
	return r.Identity, nil
}
