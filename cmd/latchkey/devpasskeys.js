"use strict";

const field = id => document.getElementById(id);

function say(text) { field("state").textContent = text; }

// run asks the authenticator with what parse makes of the options, and shows its answer.
async function run(parse, ask) {
  field("answer").value = "";
  say("waiting for the authenticator");
  try {
    const publicKey = parse(JSON.parse(field("options").value));
    field("answer").value = JSON.stringify((await ask({publicKey})).toJSON());
    say("done");
  } catch (error) {
    say(`${error.name}: ${error.message}`);
  }
}

field("create").onclick = () => run(
  json => PublicKeyCredential.parseCreationOptionsFromJSON(json), options => navigator.credentials.create(options));
field("get").onclick = () => run(
  json => PublicKeyCredential.parseRequestOptionsFromJSON(json), options => navigator.credentials.get(options));

if (!window.PublicKeyCredential || /^[0-9.]+$|:/.test(location.hostname)) {
  say(`no passkeys at ${location.hostname}: open http://localhost:${location.port}${location.pathname}`);
}
