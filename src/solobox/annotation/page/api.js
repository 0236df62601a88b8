// Requests to the program. Addresses are relative: everything lies below a secret path.

const PATIENCE = 30000; // ms; a program that is stopped, not ended, never answers

export class ApiError extends Error {
  constructor({ code, message, hint = "", task = null }) {
    super(message);
    Object.assign(this, { code, hint, task });
  }
}

const UNREACHABLE = {
  code: "unreachable",
  message: "The program does not answer – was it ended?",
  hint: "Start it again with the same command; this page goes on by itself if the address is the same.",
};

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new ApiError(UNREACHABLE);
  }
  if (response.ok) return response;
  let body = null;
  try { body = await response.json(); } catch { /* not from the program; said below */ }
  if (body?.code) throw new ApiError(body);
  throw new ApiError({ code: "invalid-response", message: `The program answered with status ${response.status}.`, hint: "Its terminal may say why." });
}

async function read(response) {
  try {
    return await response.json();
  } catch {
    throw new ApiError(UNREACHABLE); // it ended while it answered
  }
}

export const get = async (path) => read(await ask(path));

export const post = async (path, body) =>
  read(await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));

/** The decoded image. */
export async function image(index) {
  const response = await ask(`images/${index}`);
  let blob;
  try { blob = await response.blob(); } catch { throw new ApiError(UNREACHABLE); }
  try {
    return await createImageBitmap(blob);
  } catch {
    throw new ApiError({ code: "invalid-image", message: "The browser cannot show this image.", hint: "Skip it." });
  }
}

/** Repeats `request` every two seconds while the program does not answer. Only for requests that may come twice. */
export async function persist(request, onGone, pause = 2000) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (error.code !== "unreachable") throw error;
      onGone(error);
      await new Promise((done) => setTimeout(done, pause));
    }
  }
}
