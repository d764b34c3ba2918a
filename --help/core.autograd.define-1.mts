import { tensor, Tensor, defineOperator, Context, backward } from 'longspan';
const square = defineOperator({
  name: 'square',
  composed: true,
  forward(ctx: Context, x: Tensor) {
    ctx.save(x);
    return mul(x, x);
  },
  backward(ctx, gradY) {
    const [x] = ctx.saved() as [Tensor];
    return [gradY && mul(gradY, add(x, x))];
  },
});
square(tensor([1, 2, 3])).dataSync(); // 1, 4, 9


export {};
