package relay_test
import ("testing";"time";"fmt";"testing/synctest";"golang.org/x/net/http2";"github.com/capguard/capguard/server/relay")
func TestZZ(t *testing.T){
	inRig(t, setup{limits: relay.Limits{IdleTime: 2 * time.Hour}}, func(r *rig, client, backend *peer) {
		time.Sleep(time.Hour) // Without calls it may be as silent as it likes.
		client.request(1, true)
		backend.wantHeaders(1)
		backend.hush()
		time.Sleep(6 * time.Minute)
		backend.wantGoAway(http2.ErrCodeEnhanceYourCalm)
		backend.wantClosed()
		client.wantReset(1, http2.ErrCodeInternal)
		client.twin.trace=nil
		b2 :=r.site.accept(habits{})
		client.request(3, true)
		time.Sleep(time.Second)
		synctest.Wait()
		fmt.Println(client.story(), len(r.calls))
		if len(r.calls)>1 { fmt.Println(r.calls[1].unsent, r.endpoint.State()) }
		fmt.Println(b2.story())
		client.rst(1,0)
	})
}
