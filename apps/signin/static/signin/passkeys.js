// Signs in with a passkey, or makes one: the browser asks its person, the server checks the answer.
const LEFT = "Nothing was chosen, or the device did not let you. Try again.";

function bytes(text) {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0)).buffer;
}

function text(buffer) {
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function opened(options) {
  const wanted = { ...options.publicKey, challenge: bytes(options.publicKey.challenge) };
  if (wanted.user) wanted.user = { ...wanted.user, id: bytes(wanted.user.id) };
  for (const name of ["allowCredentials", "excludeCredentials"]) {
    if (wanted[name]) wanted[name] = wanted[name].map((one) => ({ ...one, id: bytes(one.id) }));
  }
  return { publicKey: wanted };
}

function told(credential) {
  const answer = credential.response;
  const response = { clientDataJSON: text(answer.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (answer[name]) response[name] = text(answer[name]);
  }
  return JSON.stringify({
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment,
    clientExtensionResults: credential.getClientExtensionResults(),
    response,
  });
}

async function post(address, form, more = {}) {
  const body = new FormData(form);
  for (const [name, value] of Object.entries(more)) body.set(name, value);
  const answer = await fetch(address, { method: "POST", body, credentials: "same-origin" });
  if (answer.redirected) {
    location.assign(answer.url);
    return null;
  }
  const found = await answer.json().catch(() => ({ error: `The server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(found.error ?? `The server answered ${answer.status}`);
  return found;
}

async function run(form) {
  const begun = await post(form.dataset.begin, form);
  if (!begun) return;
  let credential;
  try {
    credential = await navigator.credentials[form.dataset.passkey](opened(begun));
  } catch (error) {
    throw new Error(error.name === "InvalidStateError" ? "This device has a passkey here already." : LEFT);
  }
  const done = await post(form.getAttribute("action"), form, { credential: told(credential) });
  if (done) location.assign(done.next);
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!window.PublicKeyCredential) continue;
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    const said = form.querySelector("[role=alert]");
    said.hidden = true;
    button.disabled = true;
    try {
      await run(form);
    } catch (error) {
      said.textContent = error.message;
      said.hidden = false;
    }
    button.disabled = false;
  });
}
