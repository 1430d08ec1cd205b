// What proves who the owner of an account is: names, address, password, second factors.
import { post, type Answer } from "./api.ts";
import { text, time } from "./config.ts";
import { copy, one, onForm, onPress, press, save, say, show, step, write } from "./dom.ts";
import { callFresh, freshFor } from "./fresh.ts";
import { wireExport } from "./account.ts";
import * as passkey from "./passkey.ts";
import * as session from "./session.ts";

const kind = (factor: Answer, name: string): boolean => factor.kind === "FACTOR_KIND_" + name;
const dialog = (id: string): HTMLDialogElement => document.getElementById(id) as HTMLDialogElement;

let user: Answer;

export async function securityPage(): Promise<void> {
  user = (await session.call("AccountService/GetAccount", {})).user;
  freshFor(user.email);
  wireProfile();
  wirePassword();
  wireTotp();
  wirePasskeys();
  wireCodes();
  wireExport();
  showProfile();
  await showFactors();
  step("start");
}

function showProfile(): void {
  one<HTMLInputElement>("#first")!.value = user.firstName ?? "";
  one<HTMLInputElement>("#last")!.value = user.lastName ?? "";
  write("email", user.email);
  show('[data-verified="true"]', !!user.emailVerified);
  show('[data-verified="false"]', !user.emailVerified);
}

async function showFactors(): Promise<void> {
  const factors: Answer[] = (await session.call("AccountService/ListFactors", {})).factors ?? [];
  const hasPassword = factors.some((factor) => kind(factor, "PASSWORD"));
  show('form[data-form="password"]', hasPassword);
  show("[data-no-password]", !hasPassword);
  one<HTMLInputElement>('[data-form="password"] [name="username"]')!.value = user.email;

  const totp = factors.find((factor) => kind(factor, "TOTP"));
  show('[data-totp="on"]', !!totp);
  show('[data-totp="off"]', !totp);
  if (totp) write("totp", text("since", { time: time(totp.createTime) }));

  one('[data-list="passkeys"]')?.replaceChildren(...factors.filter((factor) => kind(factor, "PASSKEY")).map(passkeyRow));
  const codes = factors.find((factor) => kind(factor, "RECOVERY_CODES"));
  show("[data-recovery]", !!codes || !!totp || factors.some((factor) => kind(factor, "PASSKEY")));
  write("recovery", text("recovery_left", { left: codes?.remaining ?? 0 }));
}

function wireProfile(): void {
  onForm("profile", async ({ first_name, last_name }) => {
    user = (await session.call("AccountService/UpdateAccount", { firstName: first_name, lastName: last_name })).user;
    showProfile();
    say(text("saved"));
  });
  onForm("change-email", async ({ new_email = "" }, form) => {
    await callFresh("AccountService/ChangeEmail", { newEmail: new_email });
    form.reset();
    say(text("change_mailed", { email: new_email }));
  });
  onPress("resend-own", async () => {
    await post("AuthService/ResendVerification", { email: user.email });
    say(text("resent"));
  });
}

function wirePassword(): void {
  onForm("password", async ({ current_password, new_password }, form) => {
    const answer = await session.call("AuthService/ChangePassword", { currentPassword: current_password, newPassword: new_password });
    await session.keepDevice(user.email, answer.deviceToken);
    form.reset();
    say(text("password_changed"));
  });
  onPress("mail-password", async () => {
    await post("AuthService/ForgotPassword", { email: user.email });
    say(text("forgot_mailed", { email: user.email }));
  });
}

function wireTotp(): void {
  let image = "";
  const close = (): void => {
    URL.revokeObjectURL(image);
    write("secret", "");
    dialog("totp-dialog").close();
  };
  onPress("totp-add", async () => {
    const enrolled = await callFresh("AccountService/EnrollTotp");
    image = URL.createObjectURL(new Blob([enrolled.qrSvg], { type: "image/svg+xml" }));
    one<HTMLImageElement>("#totp-dialog .qr")!.src = image;
    write("secret", (enrolled.secret as string).replace(/(.{4})(?=.)/g, "$1 "));
    if ((enrolled.uri as string).startsWith("otpauth:")) one<HTMLAnchorElement>("[data-uri]")!.href = enrolled.uri;
    one<HTMLInputElement>("#totp-new")!.value = "";
    dialog("totp-dialog").showModal();
    one("#totp-new")?.focus();
  });
  onForm("totp-confirm", async ({ code }) => {
    const { recoveryCodes } = await session.call("AccountService/ConfirmTotp", { code });
    close();
    await showFactors();
    say(text("totp_added"));
    showCodes(recoveryCodes ?? []);
  });
  onPress("totp-cancel", close);
  onPress("totp-remove", async () => {
    await callFresh("AccountService/RemoveTotp");
    await showFactors();
    say(text("totp_removed"));
  });
}

function wirePasskeys(): void {
  show("[data-passkeys]", passkey.possible());
  onForm("passkey", async ({ name }, form) => {
    const begun = await callFresh("AccountService/StartPasskeyRegistration");
    const credentialJson = await passkey.make(begun.optionsJson);
    const made = await session.call("AccountService/FinishPasskeyRegistration", { challengeToken: begun.challengeToken, credentialJson, name });
    form.reset();
    await showFactors();
    say(text("passkey_added", { name: made.passkey.name || text("passkey_unnamed") }));
    if (made.recoveryCodes?.length) showCodes(made.recoveryCodes);
  });
  onForm("rename", async ({ name }) => {
    await session.call("AccountService/RenamePasskey", { passkeyId: renamed, name });
    dialog("rename-dialog").close();
    await showFactors();
    say(text("saved"));
  });
  onPress("rename-cancel", () => dialog("rename-dialog").close());
}

let renamed = "";

function passkeyRow(factor: Answer): DocumentFragment {
  const { row, fields } = copy("passkey");
  const name: string = factor.name || text("passkey_unnamed");
  fields.name!.textContent = name;
  fields.detail!.textContent = [
    text("since", { time: time(factor.createTime) }), factor.lastUseTime ? text("used", { time: time(factor.lastUseTime) }) : "",
  ].filter(Boolean).join(" · ");
  fields.rename!.setAttribute("aria-label", text("rename_name", { name }));
  fields.remove!.setAttribute("aria-label", text("remove_name", { name }));
  press(fields.rename!, () => {
    renamed = factor.id;
    one<HTMLInputElement>("#rename")!.value = factor.name ?? "";
    dialog("rename-dialog").showModal();
  });
  press(fields.remove!, async () => {
    const { acceptedCredentialsJson } = await callFresh("AccountService/RemovePasskey", { passkeyId: factor.id });
    await passkey.signalAccepted(acceptedCredentialsJson);
    await showFactors();
    say(text("passkey_removed", { name }));
  });
  return row;
}

/** The codes that are shown once. */
let shown: string[] = [];

function showCodes(codes: string[]): void {
  shown = codes;
  one('[data-list="codes"]')!.replaceChildren(...codes.map((code) => {
    const item = document.createElement("li");
    item.textContent = code;
    return item;
  }));
  say("", dialog("codes"));
  dialog("codes").showModal();
}

function wireCodes(): void {
  onPress("recovery-new", async () => {
    const { recoveryCodes } = await callFresh("AccountService/RegenerateRecoveryCodes");
    await showFactors();
    showCodes(recoveryCodes ?? []);
  });
  onPress("codes-copy", async () => {
    await navigator.clipboard.writeText(shown.join("\n"));
    say(text("copied"), dialog("codes"));
  });
  onPress("codes-save", () => save("recovery-codes.txt", "text/plain", shown.join("\n") + "\n"));
  onPress("codes-done", () => dialog("codes").close());
  // They are gone from the page with the dialog, also if Escape closes it.
  dialog("codes").addEventListener("close", () => {
    shown = [];
    one('[data-list="codes"]')!.replaceChildren();
  });
}
