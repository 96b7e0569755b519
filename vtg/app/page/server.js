// What the page asks the server, and what it says where that fails.

/** The JSON answer of the server. Throws an Error whose message can be shown. */
export async function fetched(path, { json, ...options } = {}) {
  if (json !== undefined) {
    options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(json), ...options };
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer; is it still running?");
  }
  const text = await response.text();
  let told;
  try {
    told = JSON.parse(text);
  } catch {
    throw new Error(`the server answered with status ${response.status}`);
  }
  if (response.ok) return told;
  throw new Error(told.error?.message ?? refusedValue(told.detail) ?? `the server answered with status ${response.status}`);
}

/** FastAPI's words for a value of the wrong kind. */
function refusedValue(detail) {
  if (!Array.isArray(detail) || !detail.length) return undefined;
  return `${detail[0].loc.slice(1).join(".")}: ${detail[0].msg}`;
}
