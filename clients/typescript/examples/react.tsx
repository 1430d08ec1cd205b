// A React hook over the session, and a page that uses it. Copy what you need: the package does not depend on React.
import { type FormEvent, useState, useSyncExternalStore } from "react";
import { type Challenge, createSession, reasonOf, type Session, type State } from "@latchkey-auth/client";

/** One session for the whole app: components share it, and so do tabs. */
export const session = createSession({
  baseUrl: "https://auth.example.com",
  storage: "cookie",
  origins: ["https://api.example.com"],
  deviceName: "web",
});

/** The state of a session. The component renders again after each change, also of other tabs. */
export function useSession(of: Session = session): State {
  return useSyncExternalStore(
    (changed) => of.onChange(changed),
    () => of.state,
    () => ({ status: "starting" }) as const,
  );
}

/** Shows its children to people who are logged in, and a login to everybody else. */
export function Private({ children }: { children: React.ReactNode }) {
  const state = useSession();
  switch (state.status) {
    case "starting":
      return null;
    case "signedIn":
      return children;
    case "ended":
      return <Login note="Your session has ended. Please log in again." />;
    default:
      return <Login />;
  }
}

function Login({ note }: { note?: string }) {
  const [challenge, setChallenge] = useState<Challenge>();
  const [problem, setProblem] = useState(note);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const typed = (name: string) => String(new FormData(event.currentTarget).get(name) ?? "");
    try {
      const result = challenge
        ? await session.answerChallenge(challenge, { case: "totpCode", value: typed("code") })
        : await session.login({ email: typed("email"), password: typed("password") });
      if (result.status === "challenge") {
        setChallenge(result.challenge);
      }
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === "CHALLENGE_INVALID") {
        setChallenge(undefined);
      }
      setProblem(problems[reason] ?? "That did not work. Please try again.");
    }
  }

  return (
    <form onSubmit={submit}>
      {problem && <p role="alert">{problem}</p>}
      {challenge ? (
        <input name="code" inputMode="numeric" autoComplete="one-time-code" aria-label="Code" required />
      ) : (
        <>
          <input name="email" type="email" autoComplete="username" aria-label="Email" required />
          <input name="password" type="password" autoComplete="current-password" aria-label="Password" required />
        </>
      )}
      <button type="submit">Log in</button>
    </form>
  );
}

const problems: Record<string, string> = {
  INVALID_CREDENTIALS: "The address or the password is wrong.",
  CODE_INVALID: "The code is wrong.",
  CHALLENGE_INVALID: "That took too long. Please log in again.",
  RATE_LIMITED: "Too many attempts. Please wait a few minutes.",
};

/** Fetches from your API with the access token. */
export async function loadThings(): Promise<unknown> {
  return (await session.fetch("https://api.example.com/things")).json();
}
