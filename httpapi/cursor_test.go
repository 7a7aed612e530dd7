package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"raft3d/farm"
)

// pages follows the list at target page by page and returns the ids of each; between is called after each page.
func pages(w *world, target string, between func(page int)) (all []string) {
	w.Helper()
	for page := 1; target != ""; page++ {
		a := w.call("GET", target, "").is(200)
		var objects []struct{ ID string }
		a.decode(&objects)
		ids := make([]string, 0, len(objects))
		for _, object := range objects {
			ids = append(ids, object.ID)
		}
		all = append(all, strings.Join(ids, " "))
		target = nextOf(a)
		if between != nil {
			between(page)
		}
		if page > 100 {
			w.Fatalf("no end: %v", all)
		}
	}
	return all
}

// nextOf is the target of an answer's Link header; empty: it has none.
func nextOf(a *answer) string {
	a.Helper()
	link := a.Header.Get("Link")
	if link == "" {
		return ""
	}
	target, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
	if !ok {
		a.Fatalf("Link: %s", link)
	}
	return target
}

// numbered is a world with the printers 01 to n, of which those with an odd number are by Prusa.
func numbered(t *testing.T, n int) *world {
	w := newWorld(t)
	for i := 1; i <= n; i++ {
		w.printer(i)
	}
	return w
}

func (w *world) printer(i int) {
	w.Helper()
	company := []string{"Bambu", "Prusa"}[i%2]
	w.call("POST", "/api/v1/printers", fmt.Sprintf(`{"id":"%02d","company":"%s","model":"a b&c>","labels":{"a":"1","b":"2"}}`, i, company)).is(201)
}

func TestAListComesInPages(t *testing.T) {
	w := numbered(t, 7)
	for limit, want := range map[int]string{
		1: "01|02|03|04|05|06|07", 3: "01 02 03|04 05 06|07", 6: "01 02 03 04 05 06|07", 7: "01 02 03 04 05 06 07", 1000: "01 02 03 04 05 06 07",
	} {
		if got := strings.Join(pages(w, fmt.Sprintf("/api/v1/printers?limit=%d", limit), nil), "|"); got != want {
			t.Errorf("limit %d: want %s, got %s", limit, want, got)
		}
	}
	a := w.call("GET", "/api/v1/printers?limit=3", "").has("X-Total-Count", "7")
	last := w.call("GET", nextOf(w.call("GET", nextOf(a), "").has("X-Total-Count", "7")), "").has("X-Total-Count", "7").has("Link", "")
	if strings.Contains(last.body, "06") {
		t.Errorf("%s", last.body)
	}
	w.call("HEAD", "/api/v1/printers?limit=3", "").has("Link", a.Header.Get("Link")).has("X-Total-Count", "7")
	w.call("GET", "/api/v1/printers", "").has("Link", "").has("X-Total-Count", "7")
	if got := pages(newWorld(t), "/api/v1/printers?limit=3", nil); len(got) != 1 || got[0] != "" {
		t.Errorf("pages of an empty list: %v", got)
	}
}

func TestAPageLeadsOnWithAllThatWasAskedFor(t *testing.T) {
	w := numbered(t, 9)
	asked := "/api/v1/printers?limit=2&label=a:1&company=Prusa&model=" + url.QueryEscape("a b&c>") + "&label=b:2&consistency=stale&min_revision=3&timeout=2s"
	if got := strings.Join(pages(w, asked, nil), "|"); got != "01 03|05 07|09" {
		t.Errorf("got %s", got)
	}
	a := w.call("GET", asked, "").has("X-Total-Count", "5")
	next, err := url.Parse(nextOf(a))
	if err != nil {
		t.Fatal(err)
	}
	given, _ := url.Parse(asked)
	want, got := given.Query(), next.Query()
	got.Del("cursor")
	if next.Path != given.Path || want.Encode() != got.Encode() {
		t.Errorf("asked %s, led on to %s", asked, next)
	}
	// A cursor without a limit leads to all that is left.
	got = next.Query()
	got.Del("limit")
	if ids := strings.Join(pages(w, "/api/v1/printers?"+got.Encode(), nil), "|"); ids != "05 07 09" {
		t.Errorf("got %s", ids)
	}
}

func TestCursorsSurviveWhatChangesInBetween(t *testing.T) {
	w := numbered(t, 9)
	got := pages(w, "/api/v1/printers?limit=3", func(page int) {
		switch page {
		case 1: // the last of the page that was shown, the first of the next one, and one that comes later
			for _, id := range []string{"03", "04", "09"} {
				w.call("DELETE", "/api/v1/printers/"+id, "").is(204)
			}
			w.printer(10)
			w.call("PATCH", "/api/v1/printers/01", `{"name":"changed"}`).is(200) // it keeps its place
			w.call("PATCH", "/api/v1/printers/06", `{"name":"changed"}`).is(200)
		case 2:
			w.printer(11)
			w.printer(3) // an old id, at a new place
		}
	})
	if want := "01 02 03|05 06 07|08 10 11|03"; strings.Join(got, "|") != want {
		t.Errorf("want %s, got %s", want, strings.Join(got, "|"))
	}
}

func TestACursorThatIsDamagedOrOfAnotherListIsRefused(t *testing.T) {
	w := stocked(t)
	w.printer(1)
	whole := cursor(farm.KindPrinter, 1)
	w.call("GET", "/api/v1/printers?cursor="+whole, "").is(200)
	bad := []string{
		cursor(farm.KindJob, 1), whole[1:], whole[:len(whole)-1], whole + "A", whole + "=", whole[:4] + "%0A" + whole[4:], "x", "%20", "AA", strings.Repeat("A", 5000), "4",
		base64.RawURLEncoding.EncodeToString([]byte{2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}),
	}
	for i := range whole {
		for _, c := range "AQgw4-" {
			if damaged := whole[:i] + string(c) + whole[i+1:]; damaged != whole {
				bad = append(bad, damaged)
			}
		}
	}
	for _, cursor := range bad {
		w.call("GET", "/api/v1/printers?cursor="+cursor, "").faults(400, "cursor")
		w.call("GET", "/api/v1/printers?limit=1&cursor="+cursor, "").faults(400, "cursor")
	}
	for _, limit := range []string{"0", "1001", "-1", "x", "1.5", "", "99999999999999999999"} {
		w.call("GET", "/api/v1/printers?limit="+limit, "").faults(400, "limit")
	}
	w.call("GET", "/api/v1/printers/p1?limit=1", "").faults(400, "limit")
}

func FuzzCursors(f *testing.F) {
	f.Add(cursor(farm.KindJob, 1), uint64(1))
	f.Add("", uint64(1<<64-1))
	f.Add("AQAAAAAAAAA\nBPJITaw", uint64(1))
	f.Fuzz(func(t *testing.T, given string, position uint64) {
		if p, ok := parseCursor(farm.KindJob, given); ok && cursor(farm.KindJob, p) != given {
			t.Errorf("%q is another spelling of %d", given, p)
		}
		if p, ok := parseCursor(farm.KindJob, cursor(farm.KindJob, position)); !ok || p != position {
			t.Errorf("%d came back as %d, %v", position, p, ok)
		}
	})
}

// A page that is longer than the buffer has its Link before its body.
func TestALongPageLeadsOnToo(t *testing.T) {
	l := withList(t, 1500, nil)
	a := newWorld(t, func(c *Config) { c.Farm = l }).call("GET", "/api/v1/print_jobs?limit=1000", "").is(200).has("X-Total-Count", "1500")
	var objects []json.RawMessage
	a.decode(&objects)
	if position, ok := parseCursor(farm.KindJob, mustQuery(t, nextOf(a)).Get("cursor")); !ok || position != 1000 || len(objects) != 1000 {
		t.Errorf("%d objects, then from %d, %v", len(objects), position, ok)
	}
}

func mustQuery(t *testing.T, target string) url.Values {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

func TestAPageThatFailsIsAProblemWithoutItsHeaders(t *testing.T) {
	l := withList(t, 5, errors.New("bbolt: page 9 is damaged"))
	a := newWorld(t, func(c *Config) { c.Farm = l }).call("GET", "/api/v1/print_jobs?limit=2", "")
	a.problem(500)
	a.has("Link", "").has("ETag", "").has("X-Total-Count", "")
}
