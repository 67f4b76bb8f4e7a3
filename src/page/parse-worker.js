// Parses a record of megabytes beside the page.

onmessage = ({ data: { id, text } }) => {
  try {
    postMessage({ id, value: JSON.parse(text) });
  } catch {
    postMessage({ id, isWrong: true });
  }
};
