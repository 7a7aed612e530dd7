package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// pages is a list of five jobs, two a page whatever is asked for; it notes what was asked.
func pages(asked *[]string) script {
	return func(r *http.Request) (*http.Response, error) {
		*asked = append(*asked, r.URL.Host+" "+r.URL.RawQuery)
		if len(*asked) == 2 {
			return refused()
		}
		switch r.URL.Query().Get("cursor") {
		case "":
			return says(http.StatusOK, `[{"id":"j1"},{"id":"j2"}]`, `Link: <http://a/api/v1/print_jobs?limit=250&status=Queued%2CRunning&cursor=Mg>; rel="next"`)
		case "Mg":
			return says(http.StatusOK, `[{"id":"j3"},{"id":"j4"}]`, `Link: </x>; rel="up", </api/v1/print_jobs?limit=250&status=Queued%2CRunning&cursor=NA>; rel="next"`)
		default:
			return says(http.StatusOK, `[{"id":"j5"}]`)
		}
	}
}

func TestAListIsFetchedInPagesFromWhicheverNodeAnswers(t *testing.T) {
	var asked []string
	c := scripted(t, pages(&asked), "a", "b")
	var ids []string
	for job, err := range c.Jobs().List(t.Context(), url.Values{"status": {"Queued,Running"}}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, job.ID)
	}
	if got := strings.Join(ids, " "); got != "j1 j2 j3 j4 j5" {
		t.Errorf("listed %s", got)
	}
	want := []string{
		"a limit=250&status=Queued%2CRunning",
		"a cursor=Mg&limit=250&status=Queued%2CRunning",
		"b cursor=Mg&limit=250&status=Queued%2CRunning",
		"b cursor=NA&limit=250&status=Queued%2CRunning",
	}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked %q", asked)
	}
}

func TestAListIsFetchedNoFurtherThanItIsRead(t *testing.T) {
	var asked []string
	c := scripted(t, pages(&asked), "a")
	for raw, err := range ListAt[json.RawMessage](t.Context(), c, JobsPath, nil) {
		if err != nil || string(raw) != `{"id":"j1"}` {
			t.Errorf("%s, %v", raw, err)
		}
		break
	}
	if len(asked) != 1 {
		t.Errorf("asked %q", asked)
	}
}

func TestAListEndsWithTheErrorThatItMeets(t *testing.T) {
	c := scripted(t, func(*http.Request) (*http.Response, error) { return problem(http.StatusBadRequest, "") }, "a")
	n := 0
	for _, err := range c.Jobs().List(t.Context(), url.Values{"nonsense": {"1"}}) {
		if n++; err == nil {
			t.Error("an object came")
		}
	}
	if n != 1 {
		t.Errorf("%d results", n)
	}
}

func TestGramsAreExact(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "1000": "1000", "12.5": "12.5", "0.001": "0.001", "97.400": "97.4", "-3.25": "-3.25", "0.1000000": "0.1",
		"999999999999999.999": "999999999999999.999",
	} {
		var g Grams
		if err := json.Unmarshal([]byte(text), &g); err != nil || g.String() != want {
			t.Errorf("%s: %v, %v", text, g, err)
		}
		if again, err := ParseGrams(g.String()); err != nil || again != g {
			t.Errorf("%s came back as %v, %v", text, again, err)
		}
	}
	for _, text := range []string{"", ".", "1.", ".5", "1e3", "+1", "1,5", "0.0001", "12g", "--1", "99999999999999999999"} {
		if g, err := ParseGrams(text); err == nil {
			t.Errorf("%q was taken as %v", text, g)
		}
	}
	if sum := 100*Gram/1000 + 200*Gram/1000; sum.String() != "0.3" {
		t.Errorf("0.1 + 0.2 = %v", sum)
	}
}
