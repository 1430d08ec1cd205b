package testenv
import ("testing";"time";"context";"sync";"github.com/jackc/pgx/v5";"fmt")
func TestZZ(t *testing.T){
 p,err:=shared.server(); if err!=nil{t.Fatal(err)}
 ctx:=t.Context()
 name,err:=p.template(ctx,func(ctx context.Context,u string) error { c,err:=pgx.Connect(ctx,u); if err!=nil{return err}; defer c.Close(ctx)
  for i:=range 25 { _,err=c.Exec(ctx,fmt.Sprintf("create table t%d(id uuid primary key, a text unique, b timestamptz, c jsonb)",i)); if err!=nil{return err}}; return nil},"h")
 if err!=nil{t.Fatal(err)}
 for round:=range 3 {
 var a,b time.Duration
 for i:=range 20 { s:=time.Now(); if err:=p.clone(ctx,fmt.Sprintf("q%d",i),name);err!=nil{t.Fatal(err)}; a+=time.Since(s)}
 for i:=range 20 { s:=time.Now(); if err:=p.drop(ctx,fmt.Sprintf("q%d",i));err!=nil{t.Fatal(err)}; b+=time.Since(s)}
 var c time.Duration
 for i:=range 5 { s:=time.Now(); if _,err:=p.admin.Exec(ctx,fmt.Sprintf("create database w%d template %s strategy wal_log",i,name));err!=nil{t.Fatal(err)}; c+=time.Since(s)}
 for i:=range 5 { p.drop(ctx,fmt.Sprintf("w%d",i)) }
 s:=time.Now(); var wg sync.WaitGroup
 for i:=range 20 { wg.Go(func(){ if err:=p.clone(ctx,fmt.Sprintf("r%d",i),name);err!=nil{t.Error(err)}})}
 wg.Wait(); d:=time.Since(s)/20
 for i:=range 20 { p.drop(ctx,fmt.Sprintf("r%d",i)) }
 t.Log(round,"clone",a/20,"drop",b/20,"wal_log clone",c/5,"parallel/clone",d)
 }
}
