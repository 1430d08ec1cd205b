/** What the session needs of its machine. Tests replace it. */
export interface Runtime {
  /** Milliseconds since 1970 by the clock of the device, which may be wrong and may jump. */
  wall(): number;
  /** Milliseconds since some moment. Never jumps, and may stand still while the device sleeps. */
  monotonic(): number;
  /** Resolves after this many milliseconds, or when the signal aborts. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
  /** A number from 0 to 1, to spread retries. */
  random(): number;
  /** A random identifier, as in RFC 9562, section 5.4. */
  uuid(): string;
}

/** The runtime of browsers, Node.js and Deno. */
export const systemRuntime: Runtime = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (milliseconds, signal) =>
    new Promise((done) => {
      const timer = setTimeout(done, milliseconds);
      signal?.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
    }),
  random: () => Math.random(),
  uuid,
};

/** Browsers have crypto.randomUUID in secure contexts only, and getRandomValues everywhere. */
function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
