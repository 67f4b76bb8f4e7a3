// Parses a record of megabytes beside the page.

onmessage = ({ data }) => {
  try {
    postMessage({ value: JSON.parse(data) });
  } catch {
    postMessage({});
  }
};
