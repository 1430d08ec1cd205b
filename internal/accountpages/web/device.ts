/** What this browser is called in the list of sessions, such as "Firefox on Windows". */
export function deviceName(agent = navigator.userAgent): string {
  const find = (names: [RegExp, string][]): string => names.find(([mark]) => mark.test(agent))?.[1] ?? "";
  const browser = find([
    [/Edg(A|iOS)?\//, "Edge"], [/OPR\//, "Opera"], [/SamsungBrowser\//, "Samsung Internet"], [/(Firefox|FxiOS)\//, "Firefox"],
    [/(Chrome|CriOS)\//, "Chrome"], [/Safari\//, "Safari"],
  ]);
  const system = find([
    [/iPhone|iPod/, "iPhone"], [/iPad/, "iPad"], [/Android/, "Android"], [/CrOS/, "ChromeOS"], [/Windows/, "Windows"], [/Mac OS X/, "macOS"],
    [/Linux/, "Linux"],
  ]);
  return [browser || "Browser", system].filter(Boolean).join(" · ");
}
