// The compression methods that the service offers.

// Both ends of what a method can do are this close: it has one size.
const ONE_SIZE = 1.05;
let methods = [];

export function setMethods(known) {
  methods = known;
}

export const anyMethods = () => methods.length > 0;
export const methodChoices = () => methods.map(({ name }) => [name, name]);
export const methodCalled = (wanted) => methods.find(({ name }) => name === wanted);
export const hasOneSize = (method) => method.largest < ONE_SIZE * method.smallest;
